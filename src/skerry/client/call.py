"""One request and how its answer is read: the part that the blocking and the asynchronous client share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

T = TypeVar("T")

REPLAYABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
IDEMPOTENCY_KEY = "Idempotency-Key"
CONTROL = "/api/v1"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is sent from disk as it is read, in a form with `fields`. `told` hears how many bytes have gone."""

    path: Path
    fields: Mapping[str, str]
    told: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request as a value. `read` turns the decoded JSON (None for an empty answer) into what the caller gets."""

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: frozenset[int] = frozenset()
    """Statuses that are answers though they are not 2xx, as the 503 of `/readyz`."""
    upload: Upload | None = None
    patient: bool = False
    """The answer may fall silent for as long as it likes, as a log that is followed."""

    @property
    def replayable(self) -> bool:
        """Whether sending it twice does it once."""
        return self.method in REPLAYABLE or IDEMPOTENCY_KEY in self.headers or "dry_run" in self.query

    def with_query(self, **more: str | None) -> "Call[T]":
        return replace(self, query={**self.query, **query(**more)})


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    data: tuple[T, ...]
    next_cursor: str | None = None


def at(collection: str, *parts: str) -> str:
    """The path of one thing; names may have slashes in them, as models from a hub do."""
    return "/".join((collection, *(quote(part, safe="") for part in parts)))


def get(path: str, read: Callable[[Any], T], **params: object) -> Call[T]:
    return Call("GET", path, read, query=query(**params))


def listing(path: str, read: Callable[[Any], T], **params: object) -> Call[Page[T]]:
    return get(path, page_of(read), **params)


def openai_listing(path: str, read: Callable[[Any], T], **params: object) -> Call[Page[T]]:
    """A list of `/v1`: the id of its last item is where the next page goes on."""

    def read_page(answer: Any) -> Page[T]:
        items = answer["data"]
        after = items[-1]["id"] if items and answer.get("has_more") else None
        return Page(tuple(read(item) for item in items), after)

    return get(path, read_page, **params)


def create(path: str, read: Callable[[Any], T], body: Mapping[str, object]) -> Call[T]:
    """A POST that creates. Its `Idempotency-Key` is made here, so that every try of it carries the same one."""
    return Call("POST", path, read, body=present(body), headers={IDEMPOTENCY_KEY: uuid4().hex})


def change(path: str, read: Callable[[Any], T], body: Mapping[str, object]) -> Call[T]:
    """A PATCH: what the body does not name stays."""
    return Call("PATCH", path, read, body=dict(body))


def act(path: str, read: Callable[[Any], T], body: Mapping[str, object] | None = None) -> Call[T]:
    """A POST that says what is wanted. Its `Idempotency-Key` lets it be sent again."""
    return Call("POST", path, read, body=body, headers={IDEMPOTENCY_KEY: uuid4().hex})


def estimate(path: str, read: Callable[[Any], T], body: Mapping[str, object]) -> Call[T]:
    """What a POST would cost. Changes nothing."""
    return Call("POST", path, read, query={"dry_run": "true"}, body=present(body))


def raw(path: str, *, patient: bool = False, headers: Mapping[str, str] | None = None, **params: object) -> Call[None]:
    """A GET whose answer is bytes, read by the client's `stream`."""
    return Call("GET", path, nothing, query=query(**params), headers=headers or {}, patient=patient)


def delete(path: str) -> Call[None]:
    return Call("DELETE", path, nothing)


def nothing(_: Any) -> None:
    """Reads an answer nobody needs."""


def page_of(read: Callable[[Any], T]) -> Callable[[Any], Page[T]]:
    def read_page(answer: Any) -> Page[T]:
        return Page(tuple(read(item) for item in answer["data"]), answer.get("next_cursor"))

    return read_page


def present(body: Mapping[str, object]) -> dict[str, Any]:
    """The body without what the caller left out."""
    return {name: value for name, value in body.items() if value is not None}


def query(**params: object) -> dict[str, str]:
    return {name: _text(value) for name, value in params.items() if value is not None}


def rfc3339(time: datetime) -> str:
    """UTC, with a Z. Naive times are refused, since nobody knows what they mean."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(part) for part in value)
    return str(value)
