from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from skerry.kernel.errors import Malformed
from skerry.kernel.paging import PageRequest
from tests.waiting import eventually


async def record(events, tx, number, project="prj_a", resource="wl_1"):
    await events.record(
        tx, project=project, resource=resource, type="workload.step", data={"n": number}, resource_kind="workload"
    )


async def record_many(events, database, numbers, **where):
    async with database.transaction() as tx:
        for number in numbers:
            await record(events, tx, number, **where)


def numbers(found):
    return [event.data["n"] for event in found]


async def test_events_are_told_oldest_first_and_keep_their_order_within_a_moment(events, database, clock):
    await record_many(events, database, range(5))
    clock.advance(days=40)
    await record_many(events, database, range(5, 10))
    async with database.reading() as tx:
        page = await events.list(tx, "prj_a")
    assert numbers(page.data) == list(range(10))
    assert not page.has_more
    first = page.data[0]
    assert (first.project, first.resource, first.resource_kind, first.type) == (
        "prj_a",
        "wl_1",
        "workload",
        "workload.step",
    )
    assert first.at == datetime(2026, 1, 1, tzinfo=UTC)
    assert first.id.startswith("evt_")


async def test_pages_join_without_gap_or_repetition(events, database, clock):
    for number in range(7):
        await record_many(events, database, [number])
        if number % 3 == 0:
            clock.advance(days=20)
    seen, cursor = [], None
    async with database.reading() as tx:
        while True:
            page = await events.list(tx, "prj_a", page=PageRequest.parse(2, cursor))
            seen += numbers(page.data)
            cursor = page.next_cursor
            if not page.has_more:
                break
    assert seen == list(range(7))


async def test_a_project_and_a_resource_see_only_their_own(events, database):
    await record_many(events, database, [1])
    await record_many(events, database, [2], resource="wl_2")
    await record_many(events, database, [3], project="prj_b")
    async with database.reading() as tx:
        assert numbers((await events.list(tx, "prj_a")).data) == [1, 2]
        assert numbers((await events.list(tx, "prj_a", "wl_2")).data) == [2]
        assert numbers((await events.list(tx, "prj_b", "wl_2")).data) == []


async def test_what_is_rolled_back_did_not_happen(events, database):
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await record(events, tx, 1)
            raise ZeroDivisionError
    await record_many(events, database, [2])
    async with database.reading() as tx:
        assert numbers((await events.list(tx, "prj_a")).data) == [2]


async def test_following_skips_nothing_that_commits_late(events, database):
    """The naive way, by number, would see 2, go on from there, and never tell 1."""
    await record_many(events, database, [0])
    async with database.reading() as tx:
        position = await events.position(tx)
    told = []

    async def follow():
        nonlocal position
        async with database.reading() as tx:
            for event in await events.follow(tx, "prj_a", position, limit=1):
                told.append(event.data["n"])
                position = event.position
        return sorted(told)

    async with database.transaction() as slow:
        await record(events, slow, 1)
        await record_many(events, database, [2])
        assert await follow() == []
    await record_many(events, database, [3])
    await eventually(lambda: equals(follow, [1, 2, 3]))
    assert len(told) == 3


async def equals(read, expected):
    return await read() == expected


async def test_following_begins_now_and_stays_in_the_project(events, database):
    await record_many(events, database, [1])
    async with database.reading() as tx:
        position = await events.position(tx)
    await record_many(events, database, [2])
    await record_many(events, database, [3], project="prj_b")

    async def follow():
        async with database.reading() as tx:
            return numbers(await events.follow(tx, "prj_a", position))

    await eventually(lambda: equals(follow, [2]))


@pytest.mark.parametrize("position", ["", "1", "1.x", "1.2.3", "-1.0", f"{2**63}.0", "é"])
async def test_a_position_that_is_none_is_refused(events, database, position):
    async with database.reading() as tx:
        with pytest.raises(Malformed):
            await events.follow(tx, "prj_a", position)


@pytest.mark.parametrize(
    "after", [("x", "1"), ("2026-01-01T00:00:00Z",), ("2026-01-01T00:00:00", "1"), ("a", "b", "c")]
)
async def test_a_cursor_that_is_none_is_refused(events, database, after):
    async with database.reading() as tx:
        with pytest.raises(Malformed):
            await events.list(tx, "prj_a", page=PageRequest(10, after))


async def test_old_months_can_be_forgotten(events, database, clock):
    await record_many(events, database, [1])
    clock.advance(days=31)
    await record_many(events, database, [2])
    async with database.transaction() as tx:
        assert [piece.name for piece in await events.forget(tx, clock.now())] == ["events_p202601"]
        assert numbers((await events.list(tx, "prj_a")).data) == [2]
        assert (await tx.execute(text("SELECT count(*) FROM events"))).scalar() == 1
