"""A journal's batches: facts, balances and the position move together, once."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from skerry.db.database import Database, Tx
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import new_uuid7
from skerry.metering.batch import source_of
from skerry.metering.journal_intake import JournalIntake, WrongPosition, dims_of, fact_id, facts_of, facts_of_all
from skerry.metering.model import Meter, Reason
from skerry.metering.service import Metering
from skerry.runtime.journal.reader import Position
from skerry.runtime.journal.records import AnswerRecord, Mark

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _record(clock: FakeClock, **changes: object) -> AnswerRecord:
    end = _us(clock.now())
    record = AnswerRecord(
        id=new_uuid7(end // 1000).bytes, project="proj_demo", key="key_1", model="smol", endpoint="ep_1",
        replica="rep_1", site="local", capacity_class="on_demand", charge_by="tokens", prompt=10, cached=0,
        completion=5, egress_bytes=321, t0=end - 1_000_000, t1=end, counted="engine", status=200,
        leases=("lease_key", "lease_org"), cost_nano=700,
    )  # fmt: skip
    return msgspec.structs.replace(record, **changes)


class Ledger:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.spent: list[dict[str, int]] = []
        self.closed: list[tuple[str, datetime]] = []

    async def settle(self, tx: Tx, spent: Mapping[str, int]) -> None:
        self.spent.append(dict(spent))

    async def close_leases(self, tx: Tx, journal: str, watermark: datetime) -> None:
        self.closed.append((journal, watermark))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def intake(database: Database, clock: FakeClock, metering: Metering, ledger: Ledger) -> JournalIntake:
    return JournalIntake(database, clock, metering, ledger)


def test_an_answer_becomes_one_fact_for_each_meter_it_moved(clock: FakeClock) -> None:
    record = _record(clock, tags={"team": "blue"}, batch="batch_1")
    facts = facts_of(record)
    assert {fact.meter: fact.quantity for fact in facts} == {
        Meter.REQUESTS: 1,
        Meter.TOKENS_PROMPT: 10,
        Meter.TOKENS_COMPLETION: 5,
        Meter.EGRESS_BYTES: 321,
    }
    assert {fact.resource for fact in facts} == {"ep_1"}
    assert {fact.t1 for fact in facts} == {clock.now()}
    assert {fact.t0 for fact in facts} == {clock.now() - timedelta(seconds=1)}
    assert dict(facts[0].dims) == {
        "model": "smol", "site": "local", "capacity_class": "on_demand", "charge_by": "tokens", "key": "key_1",
        "batch": "batch_1", "tag:team": "blue",
    }  # fmt: skip


def test_an_answer_without_tokens_is_still_a_request(clock: FakeClock) -> None:
    facts = facts_of(_record(clock, prompt=0, completion=0, egress_bytes=0))
    assert [(fact.meter, fact.quantity) for fact in facts] == [(Meter.REQUESTS, 1)]


@given(st.sets(st.integers(0, 2**122 - 1), min_size=2, max_size=8))
def test_facts_of_different_records_never_share_an_id(random_bits: set[int]) -> None:
    """Even ids that differ in their last bit only, as a counter would make them."""
    records = [((bits >> 74 << 80 | 7 << 76 | 2 << 62) | bits & (1 << 62) - 1).to_bytes(16) for bits in random_bits]
    meters = [Meter.REQUESTS, Meter.TOKENS_PROMPT, Meter.TOKENS_CACHED, Meter.TOKENS_COMPLETION, Meter.EGRESS_BYTES]
    ids = [fact_id(record, meter) for record in set(records) for meter in meters]
    assert len(set(ids)) == len(ids)
    assert len({source_of(one) for one in ids}) == len(set(records))


def test_ids_of_later_records_are_greater(clock: FakeClock) -> None:
    early, late = _record(clock), None
    clock.advance(milliseconds=1)
    late = _record(clock)
    assert max(fact.id for fact in facts_of(early)) < min(fact.id for fact in facts_of(late))


def test_what_customers_wrote_cannot_stop_the_usage_behind_it(clock: FakeClock) -> None:
    dims = dims_of(_record(clock, tags={"": "x", "a\x00b": "c\x00d", "n" * 500: "long"}))
    assert dims["tag:-"] == "x" and dims["tag:a\ufffdb"] == "c\ufffdd" and dims["tag:" + "n" * 128] == "long"


async def test_a_batch_moves_facts_balances_and_position_together(
    intake: JournalIntake, ledger: Ledger, clock: FakeClock
) -> None:
    end = Position(1, 500)
    mark = Mark(_us(clock.now()))
    result = await intake.ship("j1", Position(), end, [_record(clock), _record(clock, cost_nano=300), mark])
    assert (result.answers, result.facts.inserted, result.position, result.watermark) == (2, 8, end, clock.now())
    assert ledger.spent == [{"lease_key": 1000, "lease_org": 1000}]
    assert ledger.closed == [("j1", clock.now())]
    assert await intake.position("j1") == end


async def test_a_batch_sent_again_is_refused_with_the_place_to_read_on(
    intake: JournalIntake, ledger: Ledger, clock: FakeClock
) -> None:
    batch = [_record(clock)]
    await intake.ship("j1", Position(), Position(1, 500), batch)
    with pytest.raises(WrongPosition) as refused:
        await intake.ship("j1", Position(), Position(1, 500), batch)
    assert refused.value.position == Position(1, 500)
    with pytest.raises(WrongPosition):  # a hole
        await intake.ship("j1", Position(1, 600), Position(1, 700), batch)
    assert len(ledger.spent) == 1


async def test_a_copied_journal_counts_and_costs_nothing(
    intake: JournalIntake, ledger: Ledger, clock: FakeClock
) -> None:
    known, fresh = _record(clock), _record(clock, leases=("lease_x",))
    await intake.ship("j1", Position(), Position(1, 500), [known])
    result = await intake.ship("copy", Position(), Position(1, 900), [known, fresh])
    assert (result.answers, result.facts.duplicates) == (1, 4)
    assert ledger.spent == [{"lease_key": 700, "lease_org": 700}, {"lease_x": 700}]


async def test_an_answer_that_cannot_be_taken_costs_nothing_and_is_kept(
    intake: JournalIntake, ledger: Ledger, clock: FakeClock
) -> None:
    records = [_record(clock, t1=2**63 - 1), _record(clock, t0=5, t1=6)]
    result = await intake.ship("j1", Position(), Position(1, 500), records)
    assert result.answers == 0 and ledger.spent == []
    assert {r.reason for r in result.facts.rejected} == {Reason.IN_FUTURE, Reason.TOO_OLD}
    async with intake.db.reading() as tx:
        assert (await tx.execute(text("SELECT count(*) FROM usage_rejected"))).scalar_one() == 8


async def test_a_clock_set_back_during_an_answer_does_not_cost_its_facts(
    intake: JournalIntake, clock: FakeClock
) -> None:
    record = _record(clock, t0=_us(clock.now()) + 10)
    assert (await intake.ship("j1", Position(), Position(1, 500), [record])).facts.inserted == 4


async def test_a_failure_after_the_facts_undoes_them(
    intake: JournalIntake, ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(tx: Tx, spent: Mapping[str, int]) -> None:
        raise RuntimeError("no balance")

    record = _record(clock)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(ledger, "settle", fail)
        await intake.ship("j1", Position(), Position(1, 500), [record])
    assert await intake.position("j1") == Position()
    assert (await intake.ship("j1", Position(), Position(1, 500), [record])).answers == 1


async def test_of_two_shippers_with_one_batch_one_is_refused(
    intake: JournalIntake, ledger: Ledger, clock: FakeClock
) -> None:
    batch = [_record(clock)]
    ships = [intake.ship("j1", Position(), Position(1, 500), batch) for _ in range(3)]
    results = await asyncio.gather(*ships, return_exceptions=True)
    assert sum(isinstance(result, WrongPosition) for result in results) == 2
    assert len(ledger.spent) == 1


async def test_the_watermark_never_goes_back(intake: JournalIntake, ledger: Ledger, clock: FakeClock) -> None:
    now = _us(clock.now())
    await intake.ship("j1", Position(), Position(1, 10), [Mark(now)])
    result = await intake.ship("j1", Position(1, 10), Position(2, 0), [Mark(now - 5_000_000)])
    assert result.watermark == clock.now()
    assert len(ledger.closed) == 1
    last = await intake.ship("j1", Position(2, 0), Position(2, 0), [Mark(253_370_764_800_000_000)])
    assert last.watermark is not None and last.watermark.year == 9999


def test_records_of_a_batch_share_their_dimensions(clock: FakeClock) -> None:
    records = [_record(clock), _record(clock), _record(clock, key="key_2")]
    facts = facts_of_all(records)
    assert facts == [fact for record in records for fact in facts_of(record)]
    assert len({id(fact.dims) for fact in facts}) == 2
