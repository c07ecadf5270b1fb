import asyncio
import os
import random
import shutil
import signal
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Database, DatabaseUnavailable
from skerry.db.embedded import EmbeddedPostgres
from skerry.db.notify import WORK, Listener, notify
from skerry.kernel.clock import SystemClock
from skerry.runtime.reconciler import Loop, Wakes, back_off_seconds
from tests.db.things import make_things, things
from tests.runtime.looping import running
from tests.waiting import eventually


class Finisher:
    """Takes each new thing to `done`, and counts how often it was taken there."""

    kind = "thing"

    def __init__(self, database, clock, lease_seconds=30.0):
        self.database, self.clock, self.lease_seconds = database, clock, lease_seconds
        self.claims = 0
        self.at_work = self.most_at_work = 0

    async def claim(self, limit):
        self.claims += 1
        now = self.clock.now()
        async with self.database.transaction() as tx:
            return await claim_rows(
                tx,
                things,
                where=(things.c.status == "new") & (things.c.due_at <= now),
                order_by=[things.c.id],
                limit=limit,
                lease_seconds=self.lease_seconds,
                now=now,
            )

    async def step(self, row):
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            return await self.work(row)
        finally:
            self.at_work -= 1

    async def work(self, row):
        await asyncio.sleep(0)
        return "done"

    async def apply(self, row, change):
        async with self.database.transaction() as tx:
            values = {"status": change, "done": things.c.done + 1} if change else {}
            return await guarded_update(tx, things, row.id, row.lease_token, values) and bool(change)

    async def failed(self, row, error):
        failures = row.failures + 1
        due = self.clock.now() + timedelta(seconds=back_off_seconds(failures))
        async with self.database.transaction() as tx:
            await guarded_update(tx, things, row.id, row.lease_token, {"failures": failures, "due_at": due})


async def done_counts(database):
    async with database.reading() as tx:
        return dict((await tx.execute(select(things.c.done, func.count()).group_by(things.c.done))).all())


async def all_done_once(database, count):
    return await done_counts(database) == {1: count}


async def test_all_work_is_done_and_no_more_at_once_than_allowed(database, clock):
    await make_things(database, 30)
    finisher = Finisher(database, clock)
    async with running(Loop(finisher, concurrency=3, poll_seconds=60)):
        await eventually(lambda: all_done_once(database, 30))
    assert finisher.most_at_work == 3


async def test_two_that_claim_at_once_never_both_apply(database, database_url, clock):
    await make_things(database, 60)
    other = Database(database_url)
    loops = [Loop(Finisher(db, clock), concurrency=4, poll_seconds=0.05) for db in (database, other)]
    async with running(*loops):
        await eventually(lambda: all_done_once(database, 60))
    await other.close()


async def test_a_row_whose_lease_ended_is_taken_over_and_applied_once(database, clock):
    await make_things(database, 1)
    begun, go_on = asyncio.Event(), asyncio.Event()
    outcomes = []

    class Slow(Finisher):
        async def work(self, row):
            begun.set()
            await go_on.wait()
            return "done"

    def observe(kind, outcome, seconds):
        outcomes.append(outcome)

    async with running(Loop(Slow(database, clock), observe=observe)):
        await begun.wait()
        clock.advance(seconds=31)
        async with running(Loop(Finisher(database, clock))):
            await eventually(lambda: all_done_once(database, 1))
        go_on.set()
        await eventually(lambda: outcomes == ["unchanged"])
    assert await done_counts(database) == {1: 1}


async def test_a_row_that_fails_waits_longer_each_time_and_holds_up_no_other(database, clock):
    await make_things(database, 3)
    tried = []

    class Picky(Finisher):
        async def work(self, row):
            if row.id == "thing_0000":
                tried.append(row.failures)
                raise OSError("no")
            return "done"

    finisher = Picky(database, clock)
    async with running(Loop(finisher, poll_seconds=0.01)):
        await eventually(lambda: equals(database, {0: 1, 1: 2}))
        for failures, pause in enumerate((0.5, 1.0, 2.0), 1):
            await eventually(lambda n=failures: failures_are(database, n))
            clock.advance(seconds=pause * 0.9)
            looks = finisher.claims
            await eventually(lambda n=looks: finisher.claims > n + 2)
            assert len(tried) == failures
            clock.advance(seconds=pause * 0.1)
            await eventually(lambda n=failures: len(tried) == n + 1)


async def equals(database, counts):
    return await done_counts(database) == counts


async def failures_are(database, failures):
    async with database.reading() as tx:
        row = await tx.execute(select(things.c.failures).where(things.c.id == "thing_0000"))
        return row.scalar() == failures


async def test_a_hint_wakes_it_at_once(database, clock):
    await make_things(database, 0)
    wakes, connected = Wakes(), asyncio.Event()
    finisher = Finisher(database, clock)
    listener = Listener(database.url, [WORK], wakes.notified, lambda: (wakes.wake_all(), connected.set()))
    listening = asyncio.create_task(listener.run())
    async with running(Loop(finisher, wake=wakes.event("thing"), poll_seconds=600)):
        await connected.wait()
        await eventually(lambda: finisher.claims)
        async with database.transaction() as tx:
            await tx.execute(things.insert().values(id="thing_late"))
            await notify(tx, WORK, "thing")
        await eventually(lambda: all_done_once(database, 1))
    listening.cancel()


async def test_a_row_that_changed_is_looked_at_again_at_once(database, clock):
    await make_things(database, 1)

    class InTwoSteps(Finisher):
        async def work(self, row):
            return "done" if row.done else "new"

    async with running(Loop(InTwoSteps(database, clock), poll_seconds=600)):
        await eventually(lambda: equals(database, {2: 1}))


async def test_without_a_hint_the_poll_finds_it(database, clock):
    await make_things(database, 0)
    async with running(Loop(Finisher(database, clock), poll_seconds=0.05)):
        async with database.transaction() as tx:
            await tx.execute(things.insert().values(id="thing_late"))
        await eventually(lambda: all_done_once(database, 1))


async def test_nothing_to_change_gives_the_lease_back_and_does_not_spin(database, clock):
    await make_things(database, 1)

    class Content(Finisher):
        async def work(self, row):
            return None

    finisher, outcomes = Content(database, clock), []
    loop = Loop(finisher, poll_seconds=600, observe=lambda kind, outcome, seconds: outcomes.append(outcome))
    async with running(loop):
        await eventually(lambda: outcomes)
    assert outcomes == ["unchanged"]
    assert finisher.claims == 1
    async with database.reading() as tx:
        assert (await tx.execute(select(things.c.lease_token))).scalar() is None


async def test_a_claim_that_fails_for_any_reason_is_tried_again(database, clock):
    await make_things(database, 2)

    class Unlucky(Finisher):
        async def claim(self, limit):
            if self.claims < 2:
                self.claims += 1
                raise DatabaseUnavailable() if self.claims == 1 else KeyError("a mistake")
            return await super().claim(limit)

    async with running(Loop(Unlucky(database, clock))):
        await eventually(lambda: all_done_once(database, 2))


async def test_cancelling_ends_the_work_in_hand(database, clock):
    await make_things(database, 2)
    ended = []

    class Endless(Finisher):
        async def work(self, row):
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(row.id)

    finisher = Endless(database, clock)
    async with running(Loop(finisher)):
        await eventually(lambda: finisher.at_work == 2)
    assert sorted(ended) == ["thing_0000", "thing_0001"]


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1), (3, 2), (10, 256), (11, 300), (10**9, 300)])
def test_back_off_doubles_up_to_five_minutes(failures, seconds):
    assert back_off_seconds(failures) == seconds


@pytest.fixture
def own_server(short_tmp):
    folder = Path(tempfile.mkdtemp(dir=short_tmp))
    folder.chmod(0o755)
    server = EmbeddedPostgres(
        folder / "data", folder / "run", log=folder / "log", settings={"shared_buffers": "16MB"}, durable=False
    )
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


async def test_kill_9_of_the_database_loses_nothing_and_does_nothing_twice(own_server):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    database = Database(own_server.url())
    await make_things(database, 0)
    count = 0
    finisher = Finisher(database, SystemClock(), lease_seconds=0.5)
    async with running(*(Loop(finisher, concurrency=4, poll_seconds=0.05) for _ in range(2))):
        for _ in range(3):
            async with database.transaction() as tx:
                await tx.execute(things.insert(), [{"id": f"thing_{count + n:06}"} for n in range(300)])
            count += 300
            target = count - dice.randrange(50, 290)
            await eventually(lambda n=target: at_least(database, n))
            os.kill(own_server.pid, signal.SIGKILL)
            looks = finisher.claims
            await eventually(lambda n=looks: finisher.claims >= n + 2)  # it meets the outage, and goes on
            own_server.restart()
        await eventually(lambda: all_done_once(database, count), 20)
    await database.close()


async def at_least(database, target):
    return (await done_counts(database)).get(1, 0) >= target
