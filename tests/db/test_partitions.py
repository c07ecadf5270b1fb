import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from skerry.db.partitions import (
    Partitions,
    drop_partitions_before,
    ensure_partition,
    list_partitions,
    partition_of,
)

times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
JANUARY = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
async def facts(database):
    async with database.transaction() as tx:
        await tx.execute(
            text(
                "CREATE TABLE facts (id bigserial, at timestamptz, n int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)"
            )
        )
        await tx.execute(text("CREATE INDEX ON facts (n)"))
    return database


async def insert(database, at, n=1):
    async with database.transaction() as tx:
        await tx.execute(text("INSERT INTO facts (at, n) VALUES (:at, :n)"), {"at": at, "n": n})


@given(times, st.sampled_from(["day", "month"]))
def test_a_time_lies_in_its_piece_and_pieces_join(at, granularity):
    piece = partition_of("facts", at, granularity)
    assert piece.start <= at < piece.end
    after = partition_of("facts", piece.end, granularity)
    assert after.start == piece.end
    assert after.name > piece.name


async def test_rows_find_their_piece(facts):
    for granularity_time in (JANUARY, FEBRUARY):
        async with facts.transaction() as tx:
            await ensure_partition(tx, "facts", granularity_time, "month")
        await insert(facts, granularity_time)
    async with facts.reading() as tx:
        pieces = await list_partitions(tx, "facts")
        assert [piece.name for piece in pieces] == ["facts_p202601", "facts_p202602"]
        assert pieces[0] == partition_of("facts", JANUARY, "month")
        for piece in pieces:
            assert (await tx.execute(text(f"SELECT count(*) FROM {piece.name}"))).scalar() == 1


async def test_making_a_piece_is_safe_to_race(facts):
    async def make():
        async with facts.transaction() as tx:
            return await ensure_partition(tx, "facts", JANUARY, "day")

    there = await asyncio.gather(*(make() for _ in range(8)))
    assert there.count(False) == 1
    await insert(facts, JANUARY)


async def test_making_a_piece_does_not_stop_readers_and_writers(facts):
    async with facts.transaction() as tx:
        await ensure_partition(tx, "facts", JANUARY, "day")
    async with facts.transaction() as tx:
        await ensure_partition(tx, "facts", FEBRUARY, "day")
        async with asyncio.timeout(30):
            await insert(facts, JANUARY)
            async with facts.reading() as other:
                assert (await other.execute(text("SELECT count(*) FROM facts"))).scalar() == 1


async def test_a_piece_that_was_rolled_back_is_not_remembered(facts):
    pieces = Partitions("facts", "day")
    with pytest.raises(ZeroDivisionError):
        async with facts.transaction() as tx:
            await pieces.cover(tx, JANUARY)
            async with tx.begin_nested():
                await pieces.cover(tx, FEBRUARY)
            await pieces.cover(tx, JANUARY)
            await pieces.cover(tx, FEBRUARY)
            raise ZeroDivisionError
    for at in (JANUARY, FEBRUARY):
        async with facts.transaction() as tx:
            await pieces.cover(tx, at)
        await insert(facts, at)


async def test_the_next_piece_is_made_ahead_and_never_waited_for(facts):
    pieces = Partitions("facts", "month")
    for _ in range(2):
        async with facts.transaction() as tx:
            await pieces.cover(tx, JANUARY)
    async with facts.transaction() as tx:
        assert [piece.name for piece in await list_partitions(tx, "facts")] == ["facts_p202601", "facts_p202602"]
    other = Partitions("facts", "month")
    async with facts.transaction() as slow:
        await ensure_partition(slow, "facts", datetime(2026, 3, 1, tzinfo=UTC), "month")
        async with facts.transaction() as tx, asyncio.timeout(30):
            await other.cover(tx, FEBRUARY)


async def test_old_pieces_are_dropped_whole(facts):
    for at in (JANUARY, FEBRUARY):
        async with facts.transaction() as tx:
            await ensure_partition(tx, "facts", at, "month")
        await insert(facts, at)
    async with facts.transaction() as tx:
        assert await drop_partitions_before(tx, "facts", JANUARY) == []
        assert [piece.name for piece in await drop_partitions_before(tx, "facts", FEBRUARY)] == ["facts_p202601"]
    async with facts.reading() as tx:
        assert (await tx.execute(text("SELECT count(*) FROM facts"))).scalar() == 1
