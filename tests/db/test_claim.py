import asyncio

import pytest
from sqlalchemy import select, true, update

from skerry.db.claim import claim_rows, guarded_update
from tests.db.things import make_things, things


async def claim(database, clock, limit=10, where=None):
    async with database.transaction() as tx:
        return await claim_rows(
            tx,
            things,
            where=true() if where is None else where,
            order_by=[things.c.id],
            limit=limit,
            lease_seconds=30,
            now=clock.now(),
        )


async def test_what_is_claimed_is_not_claimed_again(database, clock):
    ids = await make_things(database, 5)
    first = await claim(database, clock, limit=3)
    second = await claim(database, clock, limit=3)
    assert sorted(row.id for row in first) == ids[:3]
    assert sorted(row.id for row in second) == ids[3:]
    assert {row.lease_token for row in first}.isdisjoint(row.lease_token for row in second)
    assert await claim(database, clock) == []


async def test_many_claim_at_once_and_none_gets_what_another_has(database, clock):
    ids = await make_things(database, 60)
    batches = await asyncio.gather(*(claim(database, clock, limit=10) for _ in range(8)))
    claimed = [row.id for rows in batches for row in rows]
    assert len(claimed) == len(set(claimed))
    claimed += [row.id for row in await claim(database, clock, limit=60)]  # what was passed over in the crowd
    assert sorted(claimed) == ids


async def test_rows_locked_by_another_are_passed_over(database, clock):
    await make_things(database, 2)
    async with database.transaction() as tx:
        await tx.execute(select(things).where(things.c.id == "thing_0000").with_for_update())
        assert [row.id for row in await claim(database, clock)] == ["thing_0001"]


async def test_only_wanted_rows_are_claimed(database, clock):
    await make_things(database, 3)
    rows = await claim(database, clock, where=things.c.id == "thing_0001")
    assert [row.id for row in rows] == ["thing_0001"]


async def test_a_lease_that_ended_is_taken_over_and_its_holder_writes_nothing(database, clock):
    await make_things(database, 1)
    [old] = await claim(database, clock)
    clock.advance(seconds=29.999)
    assert await claim(database, clock) == []
    clock.advance(seconds=0.001)
    [new] = await claim(database, clock)
    async with database.transaction() as tx:
        assert not await guarded_update(tx, things, old.id, old.lease_token, {"done": 1})
        assert await guarded_update(tx, things, new.id, new.lease_token, {"done": 2})
        row = (await tx.execute(select(things))).one()
    assert (row.done, row.lease_token, row.lease_until) == (2, None, None)


async def test_a_late_holder_may_write_while_nobody_else_came(database, clock):
    await make_things(database, 1)
    [row] = await claim(database, clock)
    clock.advance(hours=1)
    async with database.transaction() as tx:
        assert await guarded_update(tx, things, row.id, row.lease_token, {"done": 1})


async def test_a_lease_can_be_kept_and_other_writers_do_not_break_it(database, clock):
    await make_things(database, 1)
    [row] = await claim(database, clock)
    async with database.transaction() as tx:
        await tx.execute(update(things).values(status="wanted"))
        assert await guarded_update(tx, things, row.id, row.lease_token, {"done": 1}, release=False)
        assert await guarded_update(tx, things, row.id, row.lease_token, {})
        assert not await guarded_update(tx, things, row.id, row.lease_token, {"done": 2})
        with pytest.raises(ValueError):
            await guarded_update(tx, things, row.id, row.lease_token, {}, release=False)
