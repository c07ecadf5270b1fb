import asyncio

import pytest
from sqlalchemy import func, select

from skerry.db.notify import WORK, Listener
from skerry.kernel.clock import FakeClock
from skerry.kernel.errors import NotFound
from skerry.runtime.outbox import Dispatcher, Outbox
from skerry.runtime.reconciler import Loop, Wakes
from skerry.runtime.tables import outbox as table
from tests.runtime.looping import running
from tests.waiting import eventually


class Receiver:
    """Remembers what it got; raises as long as `failures` is not used up."""

    def __init__(self, failures=0):
        self.got = []
        self.failures = failures

    async def __call__(self, message):
        self.got.append(message)
        if self.failures:
            self.failures -= 1
            raise OSError("no route")


@pytest.fixture
def outbox(clock):
    return Outbox(clock)


async def put(database, outbox, *payloads, topic="mail"):
    async with database.transaction() as tx:
        return [await outbox.put(tx, topic, payload) for payload in payloads]


async def left(database):
    async with database.reading() as tx:
        return (await tx.execute(select(func.count()).select_from(table))).scalar()


async def deliver(dispatcher, limit=10):
    """One pass as the loop does it."""
    rows = await dispatcher.claim(limit)
    for row in rows:
        try:
            await dispatcher.apply(row, await dispatcher.step(row))
        except OSError as error:
            await dispatcher.failed(row, error)
    return len(rows)


async def test_what_is_put_is_delivered_and_forgotten(database, outbox, clock):
    receiver = Receiver()
    ids = await put(database, outbox, {"n": 1}, {"n": 2})
    assert await deliver(Dispatcher(database, clock, {"mail": receiver})) == 2
    assert {(message.id, message.payload["n"]) for message in receiver.got} == {(ids[0], 1), (ids[1], 2)}
    assert await left(database) == 0


async def test_what_is_rolled_back_is_never_delivered(database, outbox, clock):
    receiver = Receiver()
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await outbox.put(tx, "mail", {})
            raise ZeroDivisionError
    assert await deliver(Dispatcher(database, clock, {"mail": receiver})) == 0


async def test_a_crash_between_delivery_and_acknowledgement_delivers_again(database, outbox, clock):
    receiver = Receiver()
    [id] = await put(database, outbox, {})
    crashed = Dispatcher(database, clock, {"mail": receiver}, lease_seconds=30)
    [row] = await crashed.claim(1)
    await crashed.step(row)
    # It dies here. Nobody else touches the message while the lease runs, somebody does afterwards.
    other = Dispatcher(database, clock, {"mail": receiver})
    assert await deliver(other) == 0
    clock.advance(seconds=30)
    assert await deliver(other) == 1
    assert [message.id for message in receiver.got] == [id, id]
    assert await left(database) == 0
    assert not await crashed.apply(row, None)


async def test_a_late_acknowledgement_counts(database, outbox, clock):
    """Whoever took the message over meanwhile need not deliver it once more after failing."""
    await put(database, outbox, {})
    slow, other = (Dispatcher(database, clock, {"mail": Receiver()}) for _ in range(2))
    [row] = await slow.claim(1)
    await slow.step(row)
    clock.advance(seconds=31)
    [again] = await other.claim(1)
    assert await slow.apply(row, None)
    await other.failed(again, OSError("no route"))
    assert await left(database) == 0


async def test_failures_are_tried_again_with_growing_pauses_until_it_works(database, outbox, clock):
    receiver = Receiver(failures=3)
    dispatcher = Dispatcher(database, clock, {"mail": receiver})
    await put(database, outbox, {})
    for pause in (0.5, 1.0, 2.0):
        assert await deliver(dispatcher) == 1
        clock.advance(seconds=pause - 0.001)
        assert await deliver(dispatcher) == 0
        clock.advance(seconds=0.001)
    assert await deliver(dispatcher) == 1
    assert [message.attempts for message in receiver.got] == [0, 1, 2, 3]
    assert await left(database) == 0


async def test_a_message_that_never_arrives_is_put_aside_with_its_reason(database, outbox, clock):
    receiver = Receiver(failures=3)
    dispatcher = Dispatcher(database, clock, {"mail": receiver}, max_attempts=3)
    [id] = await put(database, outbox, {"n": 1})
    for _ in range(5):
        await deliver(dispatcher)
        clock.advance(minutes=10)
    assert len(receiver.got) == 3
    async with database.transaction() as tx:
        [dead] = await outbox.dead_letters(tx)
        assert (dead.message.id, dead.message.payload, dead.reason) == (id, {"n": 1}, "OSError: no route")
        await outbox.revive(tx, id)
        with pytest.raises(NotFound):
            await outbox.revive(tx, id)
    assert await deliver(dispatcher) == 1
    assert len(receiver.got) == 4
    assert await left(database) == 0


async def test_topics_without_a_handler_here_are_left_for_others(database, outbox, clock):
    await put(database, outbox, {}, topic="post")
    assert await deliver(Dispatcher(database, clock, {"mail": Receiver()})) == 0
    assert await left(database) == 1


async def test_two_dispatchers_and_a_hint_deliver_each_message_once(database, outbox):
    clock, receiver, wakes = FakeClock(), Receiver(), Wakes()
    loops = [
        Loop(Dispatcher(database, clock, {"mail": receiver}), wake=wakes.event("outbox"), poll_seconds=60)
        for _ in range(2)
    ]
    connected = asyncio.Event()
    listener = Listener(database.url, [WORK], wakes.notified, connected.set)
    listening = asyncio.create_task(listener.run())
    async with running(*loops):
        await connected.wait()
        for _ in range(5):
            await put(database, outbox, *range(10))
        await eventually(lambda: len(receiver.got) >= 50)
        await eventually(lambda: is_empty(database))
    listening.cancel()
    assert len({message.id for message in receiver.got}) == len(receiver.got) == 50


async def is_empty(database):
    return await left(database) == 0
