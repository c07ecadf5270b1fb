"""Requests about the request log: which answers were given."""

from datetime import datetime

from skerry.client.answers.base import reader
from skerry.client.answers.work import LoggedRequest
from skerry.client.call import CONTROL, Call, Page, at, get, listing

REQUESTS = f"{CONTROL}/requests"


def list_requests(
    *,
    model: str | None = None,
    key: str | None = None,
    status: str | None = None,
    batch: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    min_ms: int | None = None,
    q: str | None = None,
    limit: int | None = None,
) -> Call[Page[LoggedRequest]]:
    """Newest first. `status`: 200, or 5xx. The window is that of their ends."""
    window = {"from": start, "to": end}
    return listing(
        REQUESTS,
        reader(LoggedRequest),
        model=model,
        key=key,
        status=status,
        batch=batch,
        min_ms=min_ms,
        q=q,
        limit=limit,
        **window,
    )


def get_request(request_id: str) -> Call[LoggedRequest]:
    """By its `x-request-id`; with its content, where the project has it kept."""
    return get(at(REQUESTS, request_id), reader(LoggedRequest))
