"""The request log: filled by the intake of journals, searched by projects, emptied by days."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import psycopg
from sqlalchemy import exc

from skerry.db.database import Database, Tx
from skerry.db.partitions import Partitions, drop_partitions_before
from skerry.identity.model import Principal
from skerry.inference.requests import rules
from skerry.inference.requests.content import ContentSealer
from skerry.inference.requests.model import Content, ContentState, ContentView, Found, Listed, LoggedRequest, Search
from skerry.inference.requests.store import RequestStore
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Invalid, Malformed, NotFound
from skerry.kernel.ids import KeyId, ProjectId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.journal.records import AnswerRecord, ContentRecord
from skerry.runtime.secrets import Keyring, Undecryptable

SEARCH_SECONDS = 10
DAYS_AHEAD = 3
_DAY_US = 86_400_000_000
_TABLES = ("request_log", "request_content")


class KeyNames(Protocol):
    """Who knows what keys are called (identity)."""

    async def key_names(self, tx: Tx, project: ProjectId, ids: set[KeyId]) -> dict[KeyId, str]: ...

    async def keys_called(self, tx: Tx, project: ProjectId, text: str, *, part: bool = False) -> set[KeyId]: ...


class Currency(Protocol):
    """Who knows the currency of costs (billing)."""

    async def currency(self, tx: Tx) -> str: ...


class SearchTooWide(Invalid):
    """What was asked for is so rare that finding it takes too long."""

    code = "search_too_wide"


class RequestLog:
    """`days` is how long requests are kept; 0: none are."""

    def __init__(
        self, db: Database, clock: Clock, keyring: Keyring, keys: KeyNames, currency: Currency, *, days: int
    ) -> None:
        self.db = db
        self.clock = clock
        self.keys = keys
        self.currency = currency
        self.days = days
        self.sealer = ContentSealer(keyring)
        self._store = RequestStore()
        self._places = {table: Partitions(table, "day") for table in _TABLES}

    # --- filling (an `AnswerSink` of metering's intake)
    async def store(self, tx: Tx, answers: Sequence[AnswerRecord], contents: Sequence[ContentRecord]) -> None:
        """Part of the transaction that counts the usage. What is past its days already is left out."""
        if not self.days:
            return
        oldest = _microseconds(self.clock.now() - timedelta(days=self.days))
        newest = _microseconds(self.clock.now() + timedelta(days=DAYS_AHEAD))
        kept = [record for record in answers if oldest <= record.t1 < newest]
        if kept:
            await self._cover(tx, "request_log", {record.t1 // _DAY_US for record in kept})
            await self._store.add(tx, kept)
        said = [record for record in contents if oldest <= record.at < newest]
        if said:
            await self._cover(tx, "request_content", {record.at // _DAY_US for record in said})
            await self._store.add_content(tx, said)

    # --- reading
    async def search(self, project: ProjectId, search: Search, page: PageRequest) -> Page[Listed]:
        """Newest first, by the time of admission. Raises SearchTooWide, Malformed for a cursor that is none."""
        after = _after(page)
        try:
            async with self.db.reading() as tx:
                await self._store.limit_seconds(tx, SEARCH_SECONDS)
                keys = None if search.key is None else await self.keys.keys_called(tx, project, search.key)
                like = set() if search.q is None else await self.keys.keys_called(tx, project, search.q, part=True)
                if keys is not None:
                    keys.add(KeyId(search.key or ""))
                ids = None if search.q is None else rules.ids_beginning(search.q)
                found = await self._store.list(tx, project, search, page, after, keys=keys, ids=ids, keys_like=like)
                listed = await self._listed(tx, project, found.data)
        except exc.DBAPIError as error:
            if isinstance(error.orig, psycopg.errors.QueryCanceled):
                raise SearchTooWide(
                    f"nothing was found within {SEARCH_SECONDS} s",
                    suggestion="Narrow it: a window with `from` and `to`, a model or a key.",
                ) from error
            raise
        return Page(tuple(listed), found.next_cursor)

    async def get(self, principal: Principal, id: str) -> Found:
        """A request of the project acted in, with its content for keys of that project alone. Raises NotFound."""
        known = rules.request_id(id)
        project = principal.project_id
        async with self.db.reading() as tx:
            request = None if known is None else await self._store.get(tx, project, known)
            if request is None:
                raise NotFound(
                    f"there is no request {id!r} in this project",
                    suggestion="The id is the header x-request-id of an answer; "
                    f"requests are kept for {self.days} days and show a second or two after their end.",
                )
            (listed,) = await self._listed(tx, project, [request])
            return Found(listed, await self._content(tx, principal, request))

    # --- housekeeping
    async def keep_house(self) -> int:
        """Make the places of the next days, drop the days that are over; returns how many went."""
        now, gone = self.clock.now(), 0
        if self.days:
            async with self.db.transaction() as tx:
                for table in _TABLES:
                    for ahead in range(DAYS_AHEAD):
                        await self._places[table].cover(tx, now + timedelta(days=ahead))
        for table in _TABLES:
            async with self.db.transaction() as tx:
                gone += len(await drop_partitions_before(tx, table, now - timedelta(days=self.days)))
        return gone

    async def _cover(self, tx: Tx, table: str, days: set[int]) -> None:
        for day in sorted(days):  # in one order, so that two batches never wait for each other
            await self._places[table].cover(tx, datetime.fromtimestamp(day * 86_400, UTC))

    async def _listed(self, tx: Tx, project: ProjectId, requests: Sequence[LoggedRequest]) -> list[Listed]:
        names = await self.keys.key_names(tx, project, {request.key for request in requests})
        currency = await self.currency.currency(tx) if requests else ""
        return [Listed(request, names.get(request.key), currency) for request in requests]

    async def _content(self, tx: Tx, principal: Principal, request: LoggedRequest) -> ContentView:
        if principal.operator:
            return ContentView(ContentState.NOT_YOURS)
        sealed = await self._store.sealed_content(tx, principal.project_id, request.id)
        if sealed is None:
            return ContentView(ContentState.NOT_KEPT)
        try:
            content: Content = self.sealer.open(request.id.bytes, principal.project_id, sealed)
        except Undecryptable:
            return ContentView(ContentState.UNREADABLE)
        return ContentView(ContentState.SHOWN, content)


def _after(page: PageRequest) -> UUID | None:
    if page.after is None:
        return None
    known = rules.request_id(page.after[0]) if page.after else None
    if known is None:
        raise Malformed("after is not a cursor of this list", code="bad_cursor")
    return known


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
