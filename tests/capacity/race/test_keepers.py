"""Controllers are killed while they bind and deliver: every promised node-second is on record once, no node has two."""

import asyncio
import random
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select, update

from skerry.capacity.binding.tables import reservation_bindings, reservation_delivery
from skerry.capacity.claims.tables import capacity_claims
from skerry.capacity.model import ReservationStatus
from skerry.capacity.tables import reservations
from skerry.fleet import tables as fleet_tables
from skerry.metering.tables import usage_facts
from tests.capacity.binding.scene import T0, Scene
from tests.capacity.race.conftest import rounds
from tests.capacity.race.keepers import FileClock, keep
from tests.capacity.race.racers import processes
from tests.waiting import eventually

LEAVES, SIZE, SPARES, LAST, KEEPERS = 2, 5, 1, 240, 2


@pytest.mark.parametrize("seed", rounds())
async def test_controllers_that_die_lose_nothing_and_count_nothing_twice(database, tmp_path, seed):
    rng = random.Random(seed)
    clock = FileClock(tmp_path / "clock")
    clock.set(T0)
    scene = await Scene(database, clock).build(leaves=LEAVES, nodes=SIZE)
    promised = await promise_at_random(scene, rng)
    keepers = [start(database, clock) for _ in range(KEEPERS)]
    killed = 0
    try:
        while clock.now() < T0 + timedelta(minutes=LAST + 10):
            clock.set(clock.now() + timedelta(minutes=rng.randint(5, 30)))
            if rng.random() < 0.3:
                await fail_or_mend(scene, rng)
            await asyncio.sleep(rng.uniform(0, 0.1))  # so that it dies anywhere in what it is doing
            if rng.random() < 0.5:
                killed += 1
                await end(keepers.pop(0))
                keepers.append(start(database, clock))
            await at_rest_or_stuck(scene)
        await eventually(lambda: all_on_record(scene, len(promised)), 60)
    finally:
        for keeper in keepers:
            await end(keeper)
    print(f"seed {seed}: {len(promised)} reservations, {killed} controllers killed")
    await check_record(scene, promised)
    await check_nodes(scene)


def start(database, clock):
    keeper = processes.Process(target=keep, args=(database.url, str(clock.path)), daemon=True)
    keeper.start()
    return keeper


async def end(keeper):
    keeper.kill()
    await asyncio.to_thread(keeper.join, 30)


async def promise_at_random(scene, rng):
    """Reservations that the counts of the leaves allow, less a spare each; their node-seconds by id."""
    taken = {leaf: [0] * LAST for leaf in range(LEAVES)}
    promised = {}
    for _ in range(25):
        leaf, nodes, begin = rng.randrange(LEAVES), rng.randint(1, 3), rng.randrange(1, LAST - 30)
        finish = min(LAST, begin + rng.randint(10, 150))
        if all(taken[leaf][minute] + nodes <= SIZE - SPARES for minute in range(begin, finish)):
            for minute in range(begin, finish):
                taken[leaf][minute] += nodes
            promised[await scene.reserve((leaf, nodes, begin, finish))] = nodes * (finish - begin) * 60
    return promised


async def fail_or_mend(scene, rng):
    hostname = rng.choice(sorted(scene.nodes))
    failed = rng.random() < 0.5
    async with scene.database.transaction() as tx:
        row = fleet_tables.nodes.c.hostname == hostname
        values = {"status": "failed" if failed else "ready", "updated_at": scene.clock.now()}
        await tx.execute(update(fleet_tables.nodes).where(row).values(**values))
        await tx.execute(update(reservation_bindings).values(due_at=scene.clock.now()))


async def at_rest_or_stuck(scene):
    """Until nothing is due, or what is due is leased by one that is dead: then time has to pass."""

    async def done():
        now, rows = scene.clock.now(), reservation_bindings.c
        known = select(rows.id)
        async with scene.database.reading() as tx:
            coming = select(reservations).where(reservations.c.start_at <= now, reservations.c.id.not_in(known))
            if (await tx.execute(coming)).first() is not None:
                return False
            due = (await tx.execute(select(rows.lease_until).where(rows.ended_at.is_(None), rows.due_at <= now))).all()
        return all(row.lease_until is not None and row.lease_until > now for row in due)

    await eventually(done, 60)


async def all_on_record(scene, count):
    scene.clock.set(scene.clock.now() + timedelta(seconds=30))
    async with scene.database.reading() as tx:
        ended = await tx.execute(select(reservation_bindings.c.id).where(reservation_bindings.c.ended_at.is_not(None)))
        return len(ended.all()) == count


async def check_record(scene, promised):
    async with scene.database.reading() as tx:
        facts = (await tx.execute(select(usage_facts))).all()
        rows = (await tx.execute(select(reservation_delivery))).all()
        statuses = {row.id: row.status for row in await tx.execute(select(reservations))}
    for id, node_seconds in promised.items():
        own = [fact.quantity for fact in facts if fact.resource == id]
        record = [row for row in rows if row.reservation == id]
        assert sum(quantity for quantity in own if quantity > 0) == node_seconds
        assert sum(row.promised for row in record) == node_seconds
        assert sum(own) == sum(row.delivered for row in record) >= 0
        assert statuses[id] in (ReservationStatus.ENDED, ReservationStatus.CANCELLED)
    assert sum(row.delivered for row in rows) > 0


async def check_nodes(scene):
    """I6, without the constraint: whoever had a node, nobody else had it then."""
    async with scene.database.reading() as tx:
        claims = (await tx.execute(select(capacity_claims).where(~capacity_claims.c.void))).all()
    for node in scene.nodes.values():
        own = sorted((row.during.lower, row.during.upper) for row in claims if row.node == node)
        assert all(before[1] <= after[0] for before, after in pairwise(own))
