"""Values of the request log."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from skerry.kernel.ids import KeyId, ProjectId


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One answer as the gateway recorded it. Times in microseconds count from its admission."""

    id: UUID
    """The client saw its hex as `x-request-id`."""
    project: ProjectId
    key: KeyId
    model: str
    endpoint: str
    replica: str
    kind: str
    batch: str
    status: int
    stream: bool
    prompt: int
    """Prompt tokens that were not cached."""
    cached: int
    completion: int
    egress_bytes: int
    queue_us: int
    first_us: int
    """0: no first byte was seen."""
    total_us: int
    counted: str
    cost_nano: int
    ended_at: datetime


class ContentState(StrEnum):
    """Whether what was asked and answered can be read, and why not."""

    SHOWN = "shown"
    NOT_KEPT = "not_kept"
    """The project had not turned `log_content` on, or nothing was written in time."""
    NOT_YOURS = "not_yours"
    """Only keys of the project itself read its content."""
    UNREADABLE = "unreadable"
    """It was sealed with a secret key that this installation no longer has."""

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE: Mapping[ContentState, str] = {
    ContentState.SHOWN: "",
    ContentState.NOT_KEPT: "Turn it on for the requests to come: PATCH /api/v1/projects/{id} with log_content: true.",
    ContentState.NOT_YOURS: "Use a key of the project with the scope read.",
    ContentState.UNREADABLE: "Ask your operator to put the old key back into SKERRY_SECRET_KEY.",
}


@dataclass(frozen=True, slots=True)
class Content:
    """What went in and out, cut to `KEPT_BYTES` each; the counts are those of the whole."""

    request: bytes
    answer: bytes
    request_bytes: int
    answer_bytes: int


@dataclass(frozen=True, slots=True)
class ContentView:
    state: ContentState
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class StatusRange:
    """`first` to `last`, both included: one status, or a class such as 5xx."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids that begin with a prefix, both ends included."""

    first: UUID
    last: UUID


@dataclass(frozen=True, slots=True)
class Search:
    """What to list; None: any. `since` and `until` bound the end of the answer, half-open."""

    model: str | None = None
    key: str | None = None
    """By id or name."""
    status: StatusRange | None = None
    batch: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_us: int | None = None
    q: str | None = None
    """The beginning of a request's id, or a part of the model's or key's name."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of a list, with what ids are called."""

    request: LoggedRequest
    key_name: str | None
    currency: str


@dataclass(frozen=True, slots=True)
class Found:
    listed: Listed
    content: ContentView
