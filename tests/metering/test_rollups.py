"""Sums equal their facts, in whatever order, how often and how late these come."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from skerry.db.database import Database
from skerry.kernel.clock import FakeClock, usage_hour
from skerry.kernel.ids import ProjectId, derived_uuid
from skerry.kernel.paging import PageRequest, decode_cursor
from skerry.kernel.windows import Window
from skerry.metering.model import Bucket, Dims, Meter, UsageFact, UsageQuery, UsageSum
from skerry.metering.service import Metering
from tests.metering.conftest import DEMO, DIMS, MakeFact

START = datetime.fromisoformat("2026-01-01T00:00:00Z")
DAY = Window(START - timedelta(days=1), START)


async def _take(metering: Metering, *facts: UsageFact) -> None:
    async with metering.db.transaction() as tx:
        await metering.intake(tx, facts)


async def _roll_up(metering: Metering) -> int:
    hours = 0
    while (result := await metering.roll_up_once()).hours or result.more:
        hours += result.hours
    return hours


async def _usage(metering: Metering, query: UsageQuery, project: ProjectId = DEMO) -> list[UsageSum]:
    rows: list[UsageSum] = []
    after = None
    while True:
        page = await metering.usage(project, query, PageRequest(3, after))
        rows += page.data
        if page.next_cursor is None:
            return rows
        after = decode_cursor(page.next_cursor)


async def test_an_hour_is_the_sum_of_its_facts_and_touched_ones_alone_are_recomputed(
    metering: Metering, fact: MakeFact
) -> None:
    await _take(metering, fact(5), fact(7), fact(1, meter=Meter.REQUESTS), fact(9, t1=START - timedelta(hours=3)))
    assert await _roll_up(metering) == 2
    await _take(metering, fact(-2, name="correction"))
    assert await _roll_up(metering) == 1
    query = UsageQuery(DAY, bucket=Bucket.HOUR)
    assert [(row.window.start.hour, row.meter, row.quantity) for row in await _usage(metering, query)] == [
        (20, Meter.TOKENS_PROMPT, 9),
        (23, Meter.REQUESTS, 1),
        (23, Meter.TOKENS_PROMPT, 10),
    ]


async def test_the_same_sums_again_change_no_row(metering: Metering, database: Database, fact: MakeFact) -> None:
    one = fact(5)
    await _take(metering, one)
    await _roll_up(metering)
    async with database.transaction() as tx:
        before = (await tx.execute(text("SELECT xmin::text, quantity FROM usage_rollups"))).all()
        await tx.execute(
            text("INSERT INTO usage_dirty (project, hour) VALUES (:p, :h)"), {"p": DEMO, "h": usage_hour(one.t1)}
        )
    assert await _roll_up(metering) == 1
    async with database.reading() as tx:
        assert (await tx.execute(text("SELECT xmin::text, quantity FROM usage_rollups"))).all() == before


async def test_one_roller_works_at_a_time(metering: Metering, database: Database, fact: MakeFact) -> None:
    await _take(metering, fact(5))
    async with database.transaction() as tx:
        assert await metering._rollups.lock(tx)
        assert (await metering.roll_up_once()).hours == 0
    assert (await metering.roll_up_once()).hours == 1


async def test_a_mark_that_commits_while_the_roller_works_is_not_lost(
    metering: Metering, database: Database, fact: MakeFact
) -> None:
    await _take(metering, fact(1))
    async with database.transaction() as tx:
        # It has its place in the sequence of marks before the roller looks, and is committed after.
        await metering.intake(tx, [fact(2)])
        await metering.roll_up_once()
    assert (await metering.roll_up_once()).hours == 1
    assert [row.quantity for row in await _usage(metering, UsageQuery(DAY))] == [3]


async def test_roller_and_intakes_beside_each_other_lose_nothing(metering: Metering, fact: MakeFact) -> None:
    facts = [fact(n, t1=START - timedelta(minutes=7 * n)) for n in range(120)]
    done = asyncio.Event()

    async def roll() -> None:
        while not done.is_set():
            await metering.roll_up_once()

    roller = asyncio.create_task(roll())
    await asyncio.gather(*(_take(metering, *facts[n : n + 5]) for n in range(0, 120, 5)))
    done.set()
    await roller
    await _roll_up(metering)
    assert sum(row.quantity for row in await _usage(metering, UsageQuery(DAY, bucket=Bucket.HOUR))) == sum(range(120))


async def test_one_project_does_not_see_another(metering: Metering, fact: MakeFact) -> None:
    await _take(metering, fact(5), fact(70, project=ProjectId("proj_other")))
    await _roll_up(metering)
    rows = await _usage(metering, UsageQuery(DAY, ("project",)))
    assert [(row.groups, row.quantity) for row in rows] == [({"project": DEMO}, 5)]


async def test_groups_are_the_dims_of_the_facts(metering: Metering, fact: MakeFact) -> None:
    other = Dims.of({"model": "big", "charge_by": "tokens", "tag:team": "blue"})
    await _take(metering, fact(5), fact(6, dims=other), fact(1, dims=other, resource="ep_2"))
    await _roll_up(metering)

    async def grouped(*names: str) -> list[tuple]:
        return [(*row.groups.values(), row.quantity) for row in await _usage(metering, UsageQuery(DAY, names))]

    assert await grouped() == [(12,)]
    assert await grouped("model") == [("big", 7), ("smol", 5)]
    assert await grouped("tag:team", "model") == [(None, "smol", 5), ("blue", "big", 7)]
    assert await grouped("resource") == [("ep_1", 11), ("ep_2", 1)]
    assert await grouped("key", "charge_by") == [(None, "tokens", 7), ("key_1", "tokens", 5)]
    assert await grouped("sku") == [(None, 12)]


@pytest.mark.parametrize("bucket", [Bucket.DAY, Bucket.MONTH, None])
async def test_buckets_are_cut_to_the_window(metering: Metering, fact: MakeFact, bucket: Bucket | None) -> None:
    await _take(metering, fact(5, t1=START - timedelta(hours=2)), fact(7))
    await _roll_up(metering)
    window = Window(START - timedelta(hours=3), START + timedelta(hours=4))
    assert [row.window for row in await _usage(metering, UsageQuery(window, bucket=bucket))] == (
        [window] if bucket is None else [Window(window.start, START)]
    )


async def test_a_cut_splits_its_hour_by_the_last_instant_of_each_fact(metering: Metering, fact: MakeFact) -> None:
    cut = START - timedelta(minutes=30)
    moments = [cut - timedelta(seconds=1), cut, cut + timedelta(microseconds=1), START - timedelta(hours=5)]
    await _take(metering, *(fact(10**n, t1=t1) for n, t1 in enumerate(moments)))
    await _roll_up(metering)
    aligned = START - timedelta(hours=2)
    outside = [START + timedelta(hours=1), DAY.start]
    async with metering.db.reading() as tx:
        rows = await metering.rollups(tx, DEMO, UsageQuery(DAY), [cut, aligned, *outside])
    assert [(row.segment, row.quantity) for row in rows] == [(0, 1000), (1, 11), (2, 100)]


meters = st.sampled_from([Meter.TOKENS_PROMPT, Meter.REQUESTS])
dims = st.sampled_from([DIMS, Dims.of({"model": "big", "charge_by": "tokens"})])
minutes = st.integers(0, 4 * 60)
arrivals = st.lists(
    st.tuples(st.integers(0, 25), st.integers(-5, 1000), meters, dims, minutes, st.booleans()), min_size=1, max_size=40
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals, st.lists(minutes, max_size=3))
async def test_sums_equal_facts_whatever_comes_in_what_order(
    metering: Metering, clock: FakeClock, arrivals: list[tuple], cut_minutes: list[int]
) -> None:
    """Duplicates, other times for a known id, late facts, and roll-ups at any moment; each example is a project."""
    project = ProjectId(f"proj_{derived_uuid(repr(arrivals), repr(cut_minutes))}")
    first: dict[int, UsageFact] = {}
    for number, quantity, meter, values, minute, roll in arrivals:
        end = START - timedelta(minutes=minute)
        sent = UsageFact(derived_uuid(project, str(number)), meter, quantity, project, "ep", end, end, values)
        kept = first.setdefault(number, sent)
        # A repetition says what was said before, or comes with another time and is refused.
        await _take(metering, sent if sent.t1 != kept.t1 else kept)
        if roll:
            await metering.roll_up_once()
    await _roll_up(metering)

    expected: Counter[tuple] = Counter()
    for one in first.values():
        expected[usage_hour(one.t1), one.meter, one.dims["model"]] += one.quantity
    query = UsageQuery(DAY, ("model",), Bucket.HOUR)
    seen = {
        (row.window.start, row.meter, row.groups["model"]): row.quantity
        for row in await _usage(metering, query, project)
    }
    assert seen == dict(expected)

    cuts = sorted({START - timedelta(minutes=minute) for minute in cut_minutes})
    async with metering.db.reading() as tx:
        pieces = await metering.rollups(tx, project, UsageQuery(DAY), cuts)
    by_segment: Counter[tuple] = Counter()
    inner = [cut for cut in cuts if DAY.start < cut < DAY.end]
    for one in first.values():
        by_segment[sum(cut < one.t1 for cut in inner), one.meter] += one.quantity
    assert {(piece.segment, piece.meter): piece.quantity for piece in pieces} == dict(by_segment)
