"""The timeline over HTTP: a project's, one resource's, as pages or as a stream that follows."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from skerry.db.database import Database
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing
from skerry.kernel.errors import NotFound, SkerryError, Unauthorized, Unavailable
from skerry.kernel.ids import ProjectId
from skerry.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, PageRequest
from skerry.runtime.events import Event, EventLog

EVENT_STREAM: Final = "text/event-stream"

_BATCH: Final = 100
_SOON, _LATER, _CHECK = 0.2, 5.0, 15.0
"""Seconds: to look again after a hint that had nothing yet, without a hint, and to check the key and say so."""


class EventOut(BaseModel):
    """`position` is what to follow on from: `?after=` of a stream."""

    id: str
    at: datetime
    type: str
    resource: str
    resource_kind: str
    data: dict[str, Any]
    position: str

    @classmethod
    def of(cls, event: Event) -> "EventOut":
        return cls(
            id=event.id,
            at=event.at,
            type=event.type,
            resource=event.resource,
            resource_kind=event.resource_kind,
            data=dict(event.data),
            position=event.position,
        )


class EventFeed:
    """Lets streams wait for news. `hear` and `missed` are called by the listener for `skerry_events`."""

    def __init__(self, db: Database, events: EventLog) -> None:
        self.db = db
        self.events = events
        self.closing = asyncio.Event()
        self._waiting: dict[ProjectId, set[asyncio.Event]] = {}

    def hear(self, _channel: str, payload: str) -> None:
        for bell in self._waiting.get(ProjectId(payload), ()):
            bell.set()

    def missed(self) -> None:
        for bells in self._waiting.values():
            for bell in bells:
                bell.set()

    def close(self) -> None:
        """End all streams: the process is stopping."""
        self.closing.set()
        self.missed()

    async def start(self, after: str | None) -> str:
        """Where to follow from: `after` if it is a position, else now. Raises Malformed."""
        async with self.db.reading() as tx:
            if after is None:
                return await self.events.position(tx)
            await self.events.follow(tx, ProjectId(""), after, 1)
            return after

    async def follow(
        self, project: ProjectId, position: str, allowed: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[bytes, None]:
        """Server-sent events from a position on, until the caller leaves, is no longer allowed, or we stop."""
        bell = asyncio.Event()
        self._waiting.setdefault(project, set()).add(bell)
        try:
            yield b": following\n\n"
            checked = time.monotonic()
            while not self.closing.is_set():
                hinted = bell.is_set()
                bell.clear()
                news = await self._news(project, position)
                for event in news:
                    position = event.position
                    yield _frame(event)
                if not news:
                    await _wait(bell, _SOON if hinted else _LATER)
                if time.monotonic() - checked >= _CHECK:
                    checked = time.monotonic()
                    if not await allowed():
                        return
                    yield b": still here\n\n"
        finally:
            bells = self._waiting[project]
            bells.discard(bell)
            if not bells:
                del self._waiting[project]

    async def _news(self, project: ProjectId, position: str) -> Sequence[Event]:
        try:
            async with self.db.reading() as tx:
                return await self.events.follow(tx, project, position, _BATCH)
        except Unavailable:
            return []  # it will be read when the database is back


def router(feed: EventFeed, access: Access, collections: Iterable[str]) -> APIRouter:
    """`/events` and `/{collection}/{id}/events` for each collection whose resources belong to projects."""
    routes = APIRouter(tags=["events"])
    _add_project_events(routes, feed, access)
    for collection in collections:
        _add_resource_events(routes, feed, access, collection)
    return routes


def _add_project_events(routes: APIRouter, feed: EventFeed, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    stream = {
        "description": "The events, or a stream of them.",
        "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
    }

    @routes.get("/events", response_model=Listing[EventOut], responses={200: stream})
    async def list_events(
        request: Request,
        principal: Reader,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        after: Annotated[str | None, Query(max_length=1000)] = None,
        last_event_id: Annotated[str | None, Header(max_length=100)] = None,
    ) -> Any:
        """Oldest first. With `Accept: text/event-stream` what happens from now on, or from the position `after` on."""
        if EVENT_STREAM in request.headers.get("accept", ""):
            return await _stream(feed, access, request, principal, last_event_id or after)
        async with feed.db.reading() as tx:
            page = await feed.events.list(tx, principal.project_id, None, PageRequest.parse(limit, after))
        return Listing.of(page.map(EventOut.of))


def _add_resource_events(routes: APIRouter, feed: EventFeed, access: Access, collection: str) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    async def list_resource_events(
        principal: Reader,
        id: str,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        after: Annotated[str | None, Query(max_length=1000)] = None,
    ) -> Listing[EventOut]:
        """The resource's timeline, oldest first; kept when it is gone."""
        request = PageRequest.parse(limit, after)
        async with feed.db.reading() as tx:
            page = await feed.events.list(tx, principal.project_id, id, request)
        if not page.data and request.after is None:
            # Each resource has at least the event of its creation.
            raise NotFound(f"nothing is known of {id} in this project")
        return Listing.of(page.map(EventOut.of))

    name = f"list_{collection.replace('-', '_').replace('/', '_')}_events"
    routes.add_api_route(f"/{collection}/{{id}}/events", list_resource_events, name=name, operation_id=name)


async def _stream(
    feed: EventFeed, access: Access, request: Request, principal: Principal, after: str | None
) -> Response:
    secret = request.headers.get("authorization", "").partition(" ")[2].strip()

    async def allowed() -> bool:
        try:
            await access.identity.authenticate(secret)
        except Unauthorized:
            return False
        except SkerryError:
            pass  # the database is away: nobody can tell
        return True

    position = await feed.start(after)
    return StreamingResponse(
        feed.follow(principal.project_id, position, allowed),
        media_type=EVENT_STREAM,
        headers={"x-accel-buffering": "no"},
    )


async def _wait(bell: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()


def _frame(event: Event) -> bytes:
    data = EventOut.of(event).model_dump_json()
    return f"id: {event.position}\nevent: {json.dumps(event.type)[1:-1]}\ndata: {data}\n\n".encode()
