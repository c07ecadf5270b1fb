"""Facts go in once, whatever is sent how often, and what is refused is kept by name."""

import asyncio
from datetime import datetime, timedelta
from random import Random

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from skerry.db.database import Database
from skerry.kernel.clock import FakeClock, usage_hour
from skerry.metering.model import Dims, IntakeResult, Meter, Reason, Rejection
from skerry.metering.service import Metering
from tests.metering.conftest import DEMO, MakeFact


async def _take(metering: Metering, *facts) -> IntakeResult:
    async with metering.db.transaction() as tx:
        return await metering.intake(tx, facts)


async def _all(database: Database, statement: str) -> list[tuple]:
    async with database.reading() as tx:
        return [tuple(row) for row in await tx.execute(text(statement))]


async def test_a_fact_is_stored_as_it_was_sent(metering: Metering, database: Database, fact: MakeFact, clock) -> None:
    one = fact(7, resource="ep_ü", t1=clock.now() - timedelta(microseconds=1))
    assert await _take(metering, one) == IntakeResult(inserted=1, duplicates=0)
    rows = await _all(
        database,
        "SELECT f.id, meter, quantity, project, resource, t0, t1, d.dims "
        "FROM usage_facts f JOIN usage_dims d ON d.id = f.dims",
    )
    assert rows == [(one.id, one.meter, 7, DEMO, "ep_ü", one.t0, one.t1, dict(one.dims))]


async def test_the_same_batch_again_changes_nothing(metering: Metering, database: Database, fact: MakeFact) -> None:
    batch = [fact(n) for n in range(20)]
    await _take(metering, *batch)
    again = await _take(metering, *batch)
    assert (again.inserted, again.duplicates, again.rejected) == (0, 20, ())
    assert again.not_inserted == {f.id for f in batch}
    assert await _all(database, "SELECT count(*), sum(quantity) FROM usage_facts") == [(20, 190)]


async def test_a_second_t1_for_an_id_is_refused_and_the_first_counts(
    metering: Metering, database: Database, fact: MakeFact, clock: FakeClock
) -> None:
    first = fact(5, name="a")
    later = replace(first, t1=clock.now() + timedelta(days=1), quantity=9)
    await _take(metering, first)
    result = await _take(metering, later)
    assert result == IntakeResult(0, 0, (Rejection(first.id, Reason.T1_CHANGED),), frozenset({first.id}))
    assert await _all(database, "SELECT quantity FROM usage_facts") == [(5,)]
    kept = await _all(database, "SELECT id, reason, quantity FROM usage_rejected")
    assert kept == [(first.id, "t1_changed", 9)]


async def test_repetitions_within_one_batch_are_told_apart(
    metering: Metering, fact: MakeFact, clock: FakeClock
) -> None:
    first = fact(5, name="a")
    moved = replace(first, t1=clock.now() + timedelta(hours=1))
    result = await _take(metering, first, first, moved)
    assert (result.inserted, result.duplicates) == (1, 1)
    assert result.rejected == (Rejection(first.id, Reason.T1_CHANGED),)
    assert result.not_inserted == frozenset()


@pytest.mark.parametrize(
    ("shift", "reason"),
    [
        (timedelta(days=-35, microseconds=-1), Reason.TOO_OLD),
        (timedelta(days=1, microseconds=1), Reason.IN_FUTURE),
    ],
)
async def test_what_lies_outside_the_window_is_kept_with_its_reason(
    metering: Metering, database: Database, fact: MakeFact, clock: FakeClock, shift: timedelta, reason: Reason
) -> None:
    stray = fact(3, t1=clock.now() + shift)
    good = fact(4)
    for _ in range(2):  # sent twice, kept once
        result = await _take(metering, stray, good)
        assert result.rejected == (Rejection(stray.id, reason),)
        assert stray.id in result.not_inserted
    assert await _all(database, "SELECT id, reason FROM usage_rejected") == [(stray.id, reason.value)]
    assert await _all(database, "SELECT quantity FROM usage_facts") == [(4,)]


async def test_other_impossible_facts_are_refused_by_name(metering: Metering, fact: MakeFact) -> None:
    backwards = replace(fact(1), t0=fact(1).t1 + timedelta(seconds=1))
    huge = fact(2**63)
    result = await _take(metering, backwards, huge)
    assert [r.reason for r in result.rejected] == [Reason.BAD_INTERVAL, Reason.QUANTITY_OUT_OF_RANGE]


async def test_the_window_s_edges_belong_to_it(metering: Metering, fact: MakeFact, clock: FakeClock) -> None:
    edges = [fact(t1=clock.now() - timedelta(days=35)), fact(t1=clock.now() + timedelta(days=1))]
    assert (await _take(metering, *edges)).inserted == 2


async def test_nothing_holds_when_the_transaction_is_rolled_back(
    metering: Metering, database: Database, fact: MakeFact
) -> None:
    one = fact(1)
    with pytest.raises(RuntimeError):
        async with database.transaction() as tx:
            await metering.intake(tx, [one])
            raise RuntimeError
    assert await _all(database, "SELECT * FROM usage_fact_ids") == []
    assert (await _take(metering, one)).inserted == 1


async def test_two_intakes_in_one_transaction_do_not_mix(
    metering: Metering, database: Database, fact: MakeFact
) -> None:
    one, two = fact(1), fact(2)
    async with database.transaction() as tx:
        assert (await metering.intake(tx, [one])).inserted == 1
        assert (await metering.intake(tx, [one, two])).inserted == 1


async def test_four_connections_with_the_same_facts_store_each_once(
    metering: Metering, database: Database, fact: MakeFact
) -> None:
    facts = [fact(n, name=f"n{n}") for n in range(400)]
    batches = [Random(seed).sample(facts, 300) for seed in range(16)]
    results = await asyncio.gather(*(_take(metering, *batch) for batch in batches))
    distinct = {f.id for batch in batches for f in batch}
    assert sum(r.inserted for r in results) == len(distinct)
    assert all(r.inserted + r.duplicates == 300 and not r.rejected for r in results)
    assert await _all(database, "SELECT count(*) FROM usage_facts") == [(len(distinct),)]


async def test_intakes_that_need_the_same_new_days_do_not_dead_lock(database: Database, fact: MakeFact, clock) -> None:
    days = [clock.now() - timedelta(days=n) for n in range(6)]
    orders = [days, days[::-1], days[3:] + days[:3], days[::2] + days[1::2]]
    processes = [Metering(database, clock) for _ in orders]
    batches = [[fact(1, t1=day) for day in order] for order in orders]

    async def take(metering: Metering, batch: list) -> None:
        async with database.transaction() as tx:
            for one in batch:
                await metering.intake(tx, [one])

    async with asyncio.timeout(20):
        await asyncio.gather(*map(take, processes, batches), processes[0].keep_house())
    assert await _all(database, "SELECT count(*) FROM usage_facts") == [(24,)]


async def test_a_race_between_two_times_for_one_id_has_one_winner(
    metering: Metering, database: Database, fact: MakeFact, clock: FakeClock
) -> None:
    variants = [fact(1, name="same", t1=clock.now() - timedelta(seconds=n)) for n in range(4)]
    results = await asyncio.gather(*(_take(metering, variant) for variant in variants))
    assert sum(r.inserted for r in results) == 1
    assert sum(len(r.rejected) for r in results) == 3
    assert await _all(database, "SELECT count(*) FROM usage_facts") == [(1,)]


async def test_marks_name_the_hour_of_the_last_instant(metering: Metering, database: Database, fact: MakeFact) -> None:
    sharp = datetime.fromisoformat("2025-12-31T11:00:00Z")
    facts = [fact(t1=sharp), fact(t1=sharp + timedelta(microseconds=1)), fact(t1=sharp)]
    await _take(metering, *facts)
    marks = await _all(database, "SELECT project, hour FROM usage_dirty ORDER BY hour")
    assert marks == [(DEMO, usage_hour(facts[0].t1)), (DEMO, usage_hour(facts[1].t1))]
    assert marks[0][1].hour == 10


async def test_ids_are_forgotten_only_after_the_window_and_a_margin(
    metering: Metering, database: Database, fact: MakeFact, clock: FakeClock
) -> None:
    old = fact(1)
    await _take(metering, old)
    clock.advance(days=36)
    assert await metering.keep_house() == 0
    assert (await _take(metering, old)).rejected[0].reason is Reason.TOO_OLD
    clock.advance(days=2)
    assert await metering.keep_house() == 1
    assert await _all(database, "SELECT count(*) FROM usage_facts") == [(1,)]


async def test_a_fact_whose_id_was_forgotten_is_still_not_stored_twice(
    metering: Metering, database: Database, fact: MakeFact
) -> None:
    one = fact(1)
    await _take(metering, one)
    async with database.transaction() as tx:
        await tx.execute(text("DELETE FROM usage_fact_ids"))
    result = await _take(metering, one)
    assert (result.inserted, result.duplicates) == (0, 1)


async def test_keeping_house_makes_the_coming_days_partitions(metering: Metering, database: Database) -> None:
    await metering.keep_house()
    names = await _all(database, "SELECT relname FROM pg_class WHERE relname LIKE 'usage_facts_p2026010%' ORDER BY 1")
    assert [name for (name,) in names if "pkey" not in name and "_t1_" not in name][:3] == [
        "usage_facts_p20260101",
        "usage_facts_p20260102",
        "usage_facts_p20260103",
    ]


def test_dims_are_equal_by_content_and_refuse_unknown_names() -> None:
    a = Dims.of({"model": "m", "site": "s", "batch": ""})
    b = Dims.of({"site": "s", "model": "m"})
    assert a == b and a.id == b.id and hash(a) == hash(b)
    assert a["model"] == "m" and dict(a) == {"model": "m", "site": "s"} and len(a) == 2
    assert Dims.of({"model": "m"}).id != a.id
    with pytest.raises(ValueError, match="colour"):
        Dims.of({"colour": "red"})


def test_every_meter_has_a_unit_and_a_family() -> None:
    assert {meter.value for meter in Meter} == {
        "accelerator_seconds", "node_seconds_reserved", "tokens_prompt", "tokens_cached", "tokens_completion",
        "tokens_trained", "storage_byte_seconds", "egress_bytes", "requests", "energy_mwh",
    }  # fmt: skip
    for meter in Meter:
        assert meter.unit and meter.family
