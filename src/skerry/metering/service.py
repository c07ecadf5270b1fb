"""Use cases of metering: take facts in, sum them up, answer what was used."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from skerry.db.database import Database, Tx
from skerry.kernel.clock import Clock, floor_hour, require_utc
from skerry.kernel.errors import Malformed
from skerry.kernel.ids import ProjectId
from skerry.kernel.paging import Page, PageRequest
from skerry.kernel.windows import Window
from skerry.metering import rules
from skerry.metering.batch import Batch, source_of
from skerry.metering.model import (
    Bucket,
    IntakeResult,
    Reason,
    Rejection,
    RollUpResult,
    UsageFact,
    UsageQuery,
    UsageSum,
)
from skerry.metering.store.intake import IntakeStore
from skerry.metering.store.queries import UsageQueries
from skerry.metering.store.rollups import RollupStore

MARKS_A_PASS = 20_000
PRUNE_A_PASS = 50_000
DAYS_AHEAD = 3


class ProjectNames(Protocol):
    """Who knows what projects are called (identity)."""

    async def project_names(self, tx: Tx, ids: set[ProjectId]) -> dict[ProjectId, str]: ...


class Metering:
    """`id_window`: how far back `t1` of a fact may lie, and how long its id is remembered.

    Without `names`, usage grouped by project shows ids.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        names: ProjectNames | None = None,
        id_window: timedelta = rules.ID_WINDOW,
    ) -> None:
        self.db = db
        self.clock = clock
        self.names = names
        self.id_window = id_window
        self._facts = IntakeStore()
        self._rollups = RollupStore()
        self._queries = UsageQueries()

    async def intake(self, tx: Tx, facts: Sequence[UsageFact]) -> IntakeResult:
        """Store each fact exactly once, however often, from wherever and beside whomever it is sent.

        The same id with the same `t1` is a duplicate, with another one it is rejected: the first counts. What is
        rejected is kept with its reason, never dropped. Nothing holds until the caller's transaction commits; two
        transactions with several intakes each may dead-lock and then one has to be run again.
        """
        now = self.clock.now()
        batch = Batch(facts, rules.Bounds.at(now, self.id_window))
        result = IntakeResult(0, batch.duplicates)
        if batch.facts:
            result = await self._store(tx, batch)
        if batch.refused:
            await self._facts.keep_rejected(tx, batch.refused, now)
        rejected = tuple(Rejection(fact.id, reason) for fact, reason in batch.refused)
        stored = {fact.id for fact in batch.facts} - result.not_inserted if rejected else set()
        refused = {rejection.id for rejection in rejected}
        return replace(result, rejected=rejected, not_inserted=result.not_inserted | (refused - stored))

    async def roll_up_once(self) -> RollUpResult:
        """Recompute the hours that facts have touched. One roller works at a time; the others return at once."""
        async with self.db.transaction() as tx:
            if not await self._rollups.lock(tx):
                return RollUpResult()
            touched, marks = await self._rollups.take_marks(tx, MARKS_A_PASS)
            await self._rollups.recompute(tx, touched)
        return RollUpResult(sum(map(len, touched.values())), more=marks == MARKS_A_PASS)

    async def keep_house(self) -> int:
        """Make the partitions of the next days and forget ids past their window; returns how many went.

        To be called now and then; again at once where it returns `PRUNE_A_PASS`.
        """
        now = self.clock.now()
        async with self.db.transaction() as tx:
            today = floor_hour(now).replace(hour=0)
            await self._facts.cover_days(tx, [today + timedelta(days=n) for n in range(DAYS_AHEAD)])
        async with self.db.transaction() as tx:
            return await self._facts.forget_ids(tx, now - self.id_window - rules.ID_MARGIN, PRUNE_A_PASS)

    def query(
        self,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        group_by: Iterable[str] = (),
        bucket: Bucket | None = None,
    ) -> UsageQuery:
        """A query as a caller words it; default: this month as one bucket. Raises Invalid."""
        return UsageQuery(rules.query_window(start, end, self.clock.now()), rules.group_names(group_by), bucket)

    async def usage(self, project: ProjectId, query: UsageQuery, page: PageRequest) -> Page[UsageSum]:
        """What a project used, a page at a time. Up to a few seconds behind the facts."""
        rest, after = continued(query, page)
        async with self.db.reading() as tx:
            name = await self.project_name(tx, project, query)
            sums = await self._queries.sums(tx, project, rest, after=after, limit=page.limit + 1, project_name=name)
        return Page.cut(sums, page, lambda row: cursor_of(query, row.window, row.meter, row.groups))

    async def rollups(
        self,
        tx: Tx,
        project: ProjectId,
        query: UsageQuery,
        cuts: Iterable[datetime] = (),
        resource: str | None = None,
    ) -> list[UsageSum]:
        """Sums that do not reach across a cut (a change of prices); `segment` counts the cuts that lie before them.

        Cuts outside the window change nothing; `inner_cuts` of the rules says which of them count. `resource` asks for
        its usage alone.
        """
        name = await self.project_name(tx, project, query)
        inner = rules.inner_cuts(query.window, cuts)
        return await self._queries.sums(tx, project, query, inner, project_name=name, resource=resource)

    async def project_name(self, tx: Tx, project: ProjectId, query: UsageQuery) -> str:
        """What rows of a query that groups by project show; else nothing."""
        if self.names is None or "project" not in query.group_by:
            return ""
        return (await self.names.project_names(tx, {project})).get(project, "")

    async def _store(self, tx: Tx, batch: Batch) -> IntakeResult:
        """The batch as a whole where all of it is new; else only what is missing, refusing what changed its time."""
        await self._facts.cover_days(tx, batch.days())
        await self._facts.add_dims(tx, batch.dims())
        known = await self._facts.remember(tx, batch.ends)
        if not known and await self._facts.add_new(tx, batch.facts):
            await self._facts.mark(tx, batch.hours())
            return IntakeResult(len(batch.facts), batch.duplicates)
        same = [fact for fact in batch.facts if known.get(source_of(fact.id), fact.t1) == fact.t1]
        stored = await self._facts.add_missing(tx, same) if same else set()
        if stored:
            await self._facts.mark(tx, batch.hours())
        batch.refused += [
            (fact, Reason.T1_CHANGED) for fact in batch.facts if known.get(source_of(fact.id), fact.t1) != fact.t1
        ]
        return IntakeResult(
            inserted=len(stored),
            duplicates=batch.duplicates + len(same) - len(stored),
            not_inserted=frozenset(fact.id for fact in batch.facts) - stored,
        )


Key = tuple[datetime, tuple[str, ...]]
"""What rows of usage are sorted by: their bucket; their meter and groups."""


def bucket_of(query: UsageQuery, at: datetime) -> Window:
    """The bucket of a query's rows in which a moment of its window lies."""
    return rules.bucket_window(query.bucket, rules.bucket_start(query.bucket, at, query.window), query.window)


def cursor_of(query: UsageQuery, window: Window, meter: StrEnum, groups: Mapping[str, str | None]) -> tuple[str, ...]:
    """The key of a row, as a cursor holds it. Its meter may be another's word (reports)."""
    begin = rules.bucket_start(query.bucket, window.start, query.window)
    return (begin.isoformat(), meter.value, *(groups[name] or "" for name in query.group_by))


def continued(query: UsageQuery, page: PageRequest) -> tuple[UsageQuery, Key | None]:
    """What of a query is left for this page, and the key after which. Raises Malformed for another query's cursor."""
    if page.after is None:
        return query, None
    try:
        begin, *rest = page.after
        moment = require_utc(datetime.fromisoformat(begin))
        "".join(rest).encode()  # a half of a surrogate pair is text to JSON, and not to PostgreSQL
    except (ValueError, OverflowError):
        rest = []
    if len(rest) != 1 + len(query.group_by):
        raise Malformed("after is not a cursor of this query: keep the other fields as they were", code="bad_cursor")
    return rules.narrowed(query, moment), (moment, tuple(rest))
