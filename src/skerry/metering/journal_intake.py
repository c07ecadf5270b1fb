"""From a gateway's journal to facts: what one answer used, and the shipping of a batch as one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from skerry.db.database import Database, Tx
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Conflict
from skerry.kernel.ids import ProjectId
from skerry.metering.model import Dims, IntakeResult, Meter, UsageFact
from skerry.metering.service import Metering
from skerry.metering.store.positions import JournalState, PositionStore
from skerry.runtime.journal.reader import Position
from skerry.runtime.journal.records import AnswerRecord, ContentRecord, Mark, Record

_MARKS: tuple[tuple[Meter, int], ...] = (
    (Meter.REQUESTS, 0),
    (Meter.TOKENS_PROMPT, 1 << 76),
    (Meter.TOKENS_CACHED, 2 << 76),
    (Meter.TOKENS_COMPLETION, 3 << 76),
    (Meter.EGRESS_BYTES, 4 << 76),
)
"""What tells the facts of one record apart: a number of the meter's own, put (XOR) where a UUID has its version.

All records have the same version there (7), so two of them cannot meet in one id however much alike the rest of theirs
is, and ids keep the order of time. Part of ids that are stored: never change one; new meters get new numbers, up to 15.
"""

_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US = 253_402_300_799_999_999
"""The end of year 9999, where Python's and our patience with a broken clock end."""


class SettleSink(Protocol):
    """Who keeps the balances (billing). Called inside the transaction that stores the facts."""

    async def settle(self, tx: Tx, spent: Mapping[str, int]) -> None:
        """Book nano-units on leases, by lease id."""
        ...

    async def close_leases(self, tx: Tx, journal: str, watermark: datetime) -> None:
        """All that leases of this journal with an end up to `watermark` have paid for is booked."""
        ...


class AnswerSink(Protocol):
    """Who keeps a log of answers (inference). Called inside the transaction that stores the facts."""

    async def store(self, tx: Tx, answers: Sequence[AnswerRecord], contents: Sequence[ContentRecord]) -> None:
        """Records that are new, and sealed contents of these or of records before or after them."""
        ...


class WrongPosition(Conflict):
    """The batch does not begin where the journal was left; `position` is where to read on."""

    code = "wrong_journal_position"

    def __init__(self, journal: str, given: Position, position: Position) -> None:
        super().__init__(f"journal {journal} was taken in up to {position}, and the batch begins at {given}")
        self.position = position


@dataclass(frozen=True, slots=True)
class ShipResult:
    answers: int
    """Records that were new."""
    facts: IntakeResult
    position: Position
    watermark: datetime | None


class JournalIntake:
    """Takes batches of journal records in, each exactly once."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        metering: Metering,
        balances: SettleSink,
        answers: AnswerSink | None = None,
    ) -> None:
        self.db = db
        self.clock = clock
        self.metering = metering
        self.balances = balances
        self.answers = answers
        self._positions = PositionStore()

    async def position(self, journal: str) -> Position:
        """Where to read on; a journal never seen begins at its beginning."""
        async with self.db.reading() as tx:
            return (await self._positions.get(tx, journal)).position

    async def ship(self, journal: str, start: Position, end: Position, records: Sequence[Record]) -> ShipResult:
        """`apply_batch` in a transaction of its own."""
        async with self.db.transaction() as tx:
            return await self.apply_batch(tx, journal, start, end, records)

    async def apply_batch(
        self, tx: Tx, journal: str, start: Position, end: Position, records: Sequence[Record]
    ) -> ShipResult:
        """Facts, balances and the journal's position move together or not at all.

        Raises WrongPosition where another shipper was faster or something is missing between. A record that is known
        from elsewhere (a journal that was copied) changes neither facts nor balances.
        """
        now = self.clock.now()
        state = await self._positions.lock(tx, journal, now)
        if state.position != start:
            raise WrongPosition(journal, start, state.position)
        answers = [record for record in records if isinstance(record, AnswerRecord)]
        result = await self.metering.intake(tx, facts_of_all(answers))
        fresh = _fresh(answers, result.not_inserted)
        if self.answers is not None:
            contents = [record for record in records if isinstance(record, ContentRecord)]
            if fresh or contents:
                await self.answers.store(tx, fresh, contents)
        # Balances last: their rows are what gateways wait for.
        if spent := _spent(fresh):
            await self.balances.settle(tx, spent)
        watermark = _watermark(state.watermark, records)
        if watermark is not None and watermark != state.watermark:
            await self.balances.close_leases(tx, journal, watermark)
        await self._positions.advance(tx, journal, JournalState(end, watermark), now)
        return ShipResult(len(fresh), result, end, watermark)


def facts_of(record: AnswerRecord, dims: Dims | None = None) -> list[UsageFact]:
    """What an answer used. Always one of `requests`; token and byte meters only where there was something to count.

    `dims` are those of the record, if they are known.
    """
    known, t0, t1 = dims or dims_of(record), _time(record.t0), _time(record.t1)
    # A clock set back while an answer was under way must not cost the fact: the interval is then empty.
    t0 = min(t0, t1)
    project, source = ProjectId(record.project), int.from_bytes(record.id)
    quantities = (1, record.prompt, record.cached, record.completion, record.egress_bytes)
    return [
        UsageFact(UUID(int=source ^ mark), meter, quantity, project, record.endpoint, t0, t1, known)
        for (meter, mark), quantity in zip(_MARKS, quantities, strict=True)
        if quantity
    ]


def facts_of_all(records: Iterable[AnswerRecord]) -> list[UsageFact]:
    """The facts of a batch, whose records mostly share a few sets of dimensions."""
    known: dict[tuple[object, ...], Dims] = {}
    facts: list[UsageFact] = []
    for record in records:
        same = (
            record.model, record.site, record.capacity_class, record.charge_by, record.key, record.batch,
            tuple(record.tags.items()),
        )  # fmt: skip
        dims = known.get(same)
        if dims is None:
            dims = known[same] = dims_of(record)
        facts += facts_of(record, dims)
    return facts


def dims_of(record: AnswerRecord) -> Dims:
    return Dims.of(
        {
            "model": record.model,
            "site": record.site,
            "capacity_class": record.capacity_class,
            "charge_by": record.charge_by,
            "key": record.key,
            "batch": record.batch,
            **{_tag(name): value for name, value in record.tags.items()},
        }
    )


def _tag(name: str) -> str:
    """Tags come from customers: a name that cannot be stored is bent, for it must not hold up the usage behind it."""
    return f"tag:{name[:128].replace(chr(0), chr(0xFFFD)) or '-'}"


def fact_id(record_id: bytes, meter: Meter) -> UUID:
    """The id of one meter's fact of a record."""
    return UUID(int=int.from_bytes(record_id) ^ dict(_MARKS)[meter])


def _fresh(answers: Iterable[AnswerRecord], not_inserted: frozenset[UUID]) -> list[AnswerRecord]:
    """Records whose facts were stored, each id once: a row of a batch that was answered twice may come twice at once,
    and then the first one was."""
    first: dict[bytes, AnswerRecord] = {}
    for record in answers:
        if UUID(bytes=record.id) not in not_inserted:
            first.setdefault(record.id, record)
    return list(first.values())


def _spent(records: Iterable[AnswerRecord]) -> dict[str, int]:
    spent: dict[str, int] = {}
    for record in records:
        if record.cost_nano:
            for lease in record.leases:
                spent[lease] = spent.get(lease, 0) + record.cost_nano
    return spent


def _watermark(before: datetime | None, records: Iterable[Record]) -> datetime | None:
    """The newest mark; it never goes back."""
    marks = [_time(record.through) for record in records if isinstance(record, Mark)]
    return max([*marks, before] if before else marks, default=None)


def _time(microseconds: int) -> datetime:
    """A time out of this world becomes its edge: the intake then refuses the fact by name instead of stumbling."""
    return _UNIX + timedelta(microseconds=max(0, min(microseconds, _LAST_US)))
