"""From a file of requests to files of answers, with the runner and the reconciler as the controller runs them."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import pytest

from skerry.inference.batches import runner as runner_module
from skerry.inference.batches.model import BatchStatus, Endpoint
from skerry.inference.batches.rules import record_id
from skerry.inference.batches.runner import BatchRunner
from skerry.inference.batches.sending import HttpSender
from tests.batches.conftest import World, row, rows
from tests.batches.fake_gateway import Asked, FakeGateway, Hangs, Reply, completion, refusal
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Pauses that tests can wait for."""
    monkeypatch.setattr(runner_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(runner_module, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(runner_module.rules, "fault_pause", lambda faults: 0.02)
    monkeypatch.setattr("skerry.inference.batches.pacing._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("skerry.inference.batches.pacing.LONGEST_PAUSE", 0.05)


def runner_of(world: World, gateway: FakeGateway, **more) -> BatchRunner:
    sender = HttpSender(gateway.url, answer_seconds=30.0)
    return BatchRunner(world.batches, sender, world.tickets, asyncio.Event(), **more)


@asynccontextmanager
async def running(world: World, gateway: FakeGateway, **more):
    """A runner at work; at the end it is stopped as a controller stops it."""
    runner = runner_of(world, gateway, **more)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ended(world: World, batch, seconds: float = 20.0):
    """Wait for a batch's end, stepping as the reconciler's loop would."""

    async def over() -> bool:
        await world.reconcile(1)
        return (await world.get(batch)).ended

    await eventually(over, seconds)
    return await world.get(batch)


async def test_all_rows_are_answered_and_the_files_tell(world: World, gateway: FakeGateway) -> None:
    batch = await world.started([row(n) for n in "abc"], metadata={"for": "me"})
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert batch.status is BatchStatus.COMPLETED
    assert (batch.counts.total, batch.counts.completed, batch.counts.failed) == (3, 3, 0)
    assert batch.error_file is None
    results = await world.results(batch)
    assert [one["custom_id"] for one in results] == ["a", "b", "c"], "in the order of the input"
    assert [one["response"]["body"]["choices"][0]["message"]["content"] for one in results] == [
        f"done: say {n}" for n in "abc"
    ]
    assert {one["error"] for one in results} == {None}
    usage = batch.usage
    assert (usage.prompt, usage.cached, usage.completion, usage.cost) == (30, 12, 9, Decimal("0.0000012"))
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at
    async with world.db.reading() as tx:
        assert not await world.batches.store.answered_lines(tx, batch.project, batch.id), "rows are kept in files alone"


async def test_a_row_goes_out_as_it_was_written_with_a_ticket_for_its_key(world: World, gateway: FakeGateway) -> None:
    batch = await world.started([row("x", temperature=0.25, max_tokens=7)])
    async with running(world, gateway):
        await ended(world, batch)
    (asked,) = gateway.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {"model": "smol", "messages": [{"role": "user", "content": "say x"}], "temperature": 0.25,
                          "max_tokens": 7}  # fmt: skip
    ticket = asked.ticket
    assert (ticket.key, ticket.project, ticket.batch, ticket.line) == (
        world.people.customer.key_id, batch.project, batch.id, 1,
    )  # fmt: skip
    assert ticket.id == record_id(batch.id, batch.created_at, 1).bytes


async def test_rows_that_are_refused_are_in_the_error_file(world: World, gateway: FakeGateway) -> None:
    def answers(asked: Asked) -> Reply:
        return completion(asked) if asked.ticket.line % 2 else refusal(404, "model_not_found")

    gateway.answers = answers
    batch = await world.started(rows(6))
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert batch.status is BatchStatus.COMPLETED
    assert (batch.counts.completed, batch.counts.failed) == (3, 3)
    errors = await world.results(batch, "error")
    assert [(one["custom_id"], one["response"]["status_code"]) for one in errors] == [
        ("2", 404),
        ("4", 404),
        ("6", 404),
    ]
    assert [one["custom_id"] for one in await world.results(batch)] == ["1", "3", "5"]


async def test_a_revoked_key_fails_the_rows_with_that_reason(world: World, gateway: FakeGateway) -> None:
    gateway.answers = lambda asked: refusal(401, "revoked_key")
    batch = await world.started(rows(3))
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert (batch.status, batch.counts.failed, batch.output_file) == (BatchStatus.COMPLETED, 3, None)
    codes = {one["response"]["body"]["error"]["code"] for one in await world.results(batch, "error")}
    assert codes == {"revoked_key"}


async def test_busy_and_broken_gateways_cost_no_row(world: World, gateway: FakeGateway) -> None:
    tries: Counter[int] = Counter()

    def answers(asked: Asked) -> Reply:
        line = asked.ticket.line
        tries[line] += 1
        if tries[line] <= 3:
            match (line + tries[line]) % 4:
                case 0:
                    return refusal(503, "overloaded", retry_after="1")
                case 1:
                    return refusal(429, "rate_limit_exceeded")
                case 2:
                    return refusal(503, "replica_failed")
            raise Hangs
        return completion(asked)

    gateway.answers = answers
    batch = await world.started(rows(30))
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert (batch.status, batch.counts.completed) == (BatchStatus.COMPLETED, 30)
    assert sorted(gateway.answered) == list(range(1, 31)), "each was answered once"
    assert [one["custom_id"] for one in await world.results(batch)] == [str(n) for n in range(1, 31)]


async def test_a_gateway_that_is_not_there_is_waited_for(world: World, gateway: FakeGateway) -> None:
    await gateway.stop()
    batch = await world.started(rows(5))
    seen: Counter[str] = Counter()
    async with running(world, gateway, observe=lambda kind, outcome, seconds: seen.update([outcome])):
        await eventually(lambda: seen["unreachable"] > 3)
        assert not gateway.asked
        await gateway.start()
        batch = await ended(world, batch)
    assert batch.counts.completed == 5
    assert not seen["given_up"]


async def test_a_row_that_breaks_things_each_time_is_given_up_alone(world: World, gateway: FakeGateway) -> None:
    def answers(asked: Asked) -> Reply:
        if asked.ticket.line == 2:
            raise Hangs
        return completion(asked)

    gateway.answers = answers
    batch = await world.started(rows(4))
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert (batch.counts.completed, batch.counts.failed) == (3, 1)
    (error,) = await world.results(batch, "error")
    assert (error["custom_id"], error["response"], error["error"]["code"]) == ("2", None, "gateway_unreachable")


async def test_an_empty_budget_ends_rows_only_when_nothing_is_set_aside(world: World, gateway: FakeGateway) -> None:
    """402 while other rows hold reservations is no verdict: of ten rows the budget can hold two at once."""

    async def answers(asked: Asked) -> Reply:
        if gateway.under_way > 2:
            return refusal(402, "budget_exhausted")
        await asyncio.sleep(0)
        return completion(asked)

    gateway.answers = answers
    batch = await world.started(rows(10))
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert (batch.counts.completed, batch.counts.failed) == (10, 0)
    gateway.answers = lambda asked: refusal(402, "budget_exhausted")
    poor = await world.started(rows(3))
    async with running(world, gateway):
        poor = await ended(world, poor)
    assert (poor.counts.completed, poor.counts.failed) == (0, 3)


async def test_a_killed_runner_s_rows_are_answered_by_the_next_one_and_none_twice_in_the_files(
    world: World, gateway: FakeGateway, clock
) -> None:
    """As `kill -9` does it: results in memory are lost, rows under way are cut off, and leases are not given back."""
    granted = allowed = rounds = 0

    async def answers(asked: Asked) -> Reply:
        nonlocal granted
        await eventually(lambda: granted < allowed, 60)
        granted += 1
        return completion(asked)

    gateway.answers = answers
    batch = await world.started(rows(20))
    while len(set(gateway.answered)) < 20:
        rounds += 1
        runner = runner_of(world, gateway)
        runner._stop = _nothing
        task = asyncio.create_task(runner.run())
        allowed = granted + rounds
        await eventually(lambda goal=allowed: granted >= goal or len(set(gateway.answered)) == 20)
        task.cancel()
        under_way = [row_ for run in runner._runs.values() for row_ in run.tasks]
        for left in under_way:
            left.cancel()
        await asyncio.gather(task, *under_way, return_exceptions=True)
        clock.advance(seconds=runner_module.LEASE_SECONDS + 1)
    allowed = granted + 1000
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert rounds > 4
    assert (batch.status, batch.counts.completed) == (BatchStatus.COMPLETED, 20)
    assert [one["custom_id"] for one in await world.results(batch)] == [str(n) for n in range(1, 21)]
    ids = {(asked.ticket.line, asked.ticket.id) for asked in gateway.asked}
    assert len(ids) == 20, "sent again, a row has the same record id"
    assert len(gateway.asked) > 20, "the test itself is broken: nothing was lost"
    assert batch.usage.completion == 60, "what was answered twice counts once"


async def _nothing() -> None:
    """A process that is killed does nothing more."""


async def test_a_stopped_runner_gives_its_batches_back_at_once(world: World, gateway: FakeGateway) -> None:
    gate = asyncio.Event()

    async def answers(asked: Asked) -> Reply:
        if asked.ticket.line > 2:
            await gate.wait()
        return completion(asked)

    gateway.answers = answers
    batch = await world.started(rows(8))
    async with running(world, gateway):
        await eventually(lambda: len(gateway.answered) == 2 and gateway.under_way)
    assert (await world.get(batch)).counts.completed == 2, "what was answered is kept"
    await eventually(lambda: not gateway.under_way)
    gate.set()
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert batch.counts.completed == 8


async def test_a_cancelled_batch_finishes_what_is_under_way_and_tells_of_the_rest(
    world: World, gateway: FakeGateway
) -> None:
    gate = asyncio.Event()

    async def answers(asked: Asked) -> Reply:
        if asked.ticket.line > 2:
            await gate.wait()
        return completion(asked)

    gateway.answers = answers
    batch = await world.started(rows(10))
    async with running(world, gateway, rows=4) as runner:
        await eventually(lambda: gateway.under_way == 4 and len(gateway.asked) == 6)
        cancelling = await world.cancel(batch)
        assert cancelling.status is BatchStatus.CANCELLING
        assert (await world.cancel(batch)).status is BatchStatus.CANCELLING, "twice is once"
        sent = len(gateway.asked)
        await eventually(lambda: all(run.closing for run in runner._runs.values()))
        gate.set()
        batch = await ended(world, batch)
    assert batch.status is BatchStatus.CANCELLED
    assert len(gateway.asked) == sent, "nothing new was sent"
    assert batch.counts.completed == 6
    assert len(await world.results(batch)) == 6
    errors = await world.results(batch, "error")
    assert [(one["custom_id"], one["error"]["code"]) for one in errors] == [
        (str(n), "batch_cancelled") for n in range(7, 11)
    ]


async def test_rows_of_a_cancelled_batch_that_take_too_long_are_dropped(
    world: World, gateway: FakeGateway, monkeypatch
) -> None:
    monkeypatch.setattr(runner_module, "GRACE_SECONDS", 0.05)

    async def answers(asked: Asked) -> Reply:
        await asyncio.Event().wait()

    gateway.answers = answers
    batch = await world.started(rows(3))
    async with running(world, gateway):
        await eventually(lambda: gateway.under_way == 3)
        await world.cancel(batch)
        batch = await ended(world, batch)
    assert (batch.status, batch.counts.missing, batch.output_file) == (BatchStatus.CANCELLED, 3, None)
    assert len(await world.results(batch, "error")) == 3


async def test_a_batch_may_be_cancelled_before_it_was_looked_at(world: World) -> None:
    batch = await world.create(rows(3))
    assert (await world.cancel(batch)).status is BatchStatus.CANCELLING
    batch = await ended(world, batch)
    assert (batch.status, batch.output_file, batch.error_file) == (BatchStatus.CANCELLED, None, None)


async def test_what_the_window_leaves_unanswered_is_in_the_error_file(world: World, gateway, clock) -> None:
    gateway.answers = lambda asked: completion(asked) if asked.ticket.line == 3 else refusal(503, "overloaded")
    batch = await world.started([row("1"), b"", row("2"), row("3"), row("4")], completion_window="2h")
    async with running(world, gateway):

        async def one_is_kept() -> bool:
            return (await world.get(batch)).counts.completed == 1

        await eventually(one_is_kept)
        clock.advance(hours=2)
        batch = await ended(world, batch)
    assert batch.status is BatchStatus.EXPIRED
    assert batch.expired_at == batch.expires_at
    assert [one["custom_id"] for one in await world.results(batch)] == ["2"]
    errors = await world.results(batch, "error")
    assert [(one["custom_id"], one["error"]["code"]) for one in errors] == [
        (n, "batch_expired") for n in ("1", "3", "4")
    ]


async def test_a_batch_that_nobody_runs_expires_too(world: World, clock) -> None:
    batch = await world.started(rows(2))
    clock.advance(hours=24)
    batch = await ended(world, batch)
    assert (batch.status, batch.counts.missing) == (BatchStatus.EXPIRED, 2)


async def test_one_project_s_flood_does_not_hold_up_another_s_rows(world: World, gateway: FakeGateway) -> None:
    other = replace(world.people.operator, operator=False)
    order: list[str] = []

    async def answers(asked: Asked) -> Reply:
        order.append(asked.ticket.project)
        await asyncio.sleep(0)
        return completion(asked)

    gateway.answers = answers
    floods = [await world.started(rows(60)) for _ in range(3)]
    small = await world.started(rows(10), other)
    async with running(world, gateway, rows=4):
        small = await ended(world, small)
        assert small.counts.completed == 10
        mine = max(place for place, project in enumerate(order) if project == other.project_id)
        assert mine < 40, "they took turns"
        for batch in floods:
            await world.cancel(batch)


async def test_rows_under_way_stay_within_the_limit(world: World, gateway: FakeGateway) -> None:
    async def answers(asked: Asked) -> Reply:
        await asyncio.sleep(0.001)
        return completion(asked)

    gateway.answers = answers
    batch = await world.started(rows(120))
    async with running(world, gateway, rows=8):
        batch = await ended(world, batch)
    assert batch.counts.completed == 120
    assert 4 < gateway.most_under_way <= 8, "it grows, and stops at the limit"
    assert gateway.connections <= 8, "connections are kept"


async def test_a_model_that_is_busy_does_not_hold_up_another(world: World, gateway: FakeGateway) -> None:
    gateway.answers = lambda asked: refusal(503, "overloaded") if asked.body["model"] == "busy" else completion(asked)
    batch = await world.started([row(n, model="busy" if n % 2 else "idle") for n in range(20)])
    async with running(world, gateway):
        await eventually(lambda: len(gateway.answered) == 10)
        await world.cancel(batch)
        batch = await ended(world, batch)
    assert batch.counts.completed == 10


async def test_the_input_file_may_not_go_away(world: World, gateway: FakeGateway) -> None:
    gone = await world.create(rows(3))
    await world.files.delete(world.people.customer, gone.input_file)
    gone = await ended(world, gone)
    assert (gone.status, [error.code for error in gone.errors]) == (BatchStatus.FAILED, ["input_file_deleted"])

    gateway.answers = lambda asked: completion(asked) if asked.ticket.line <= 2 else refusal(503, "overloaded")
    batch = await world.started(rows(4))
    async with running(world, gateway):
        await eventually(lambda: len(gateway.answered) == 2)
    await world.files.delete(world.people.customer, batch.input_file)
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert (batch.status, batch.counts.completed, batch.error_file) == (BatchStatus.FAILED, 2, None)
    assert [error.code for error in batch.errors] == ["input_file_deleted"]
    assert len(await world.results(batch)) == 2, "what was answered is there"


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ([b"nothing of the kind"], ["invalid_json_line"]),
        ([], ["empty_file"]),
        ([row("a"), row("a")], ["duplicate_custom_id"]),
        ([row("a"), row("b", url="/v1/embeddings")], ["mismatched_endpoint"]),
        ([row("a", stream=True), row("b", model="")], ["stream_not_supported", "missing_model"]),
    ],
)
async def test_a_file_that_cannot_be_run_fails_the_batch(world: World, lines, codes) -> None:
    batch = await ended(world, await world.create(lines))
    assert batch.status is BatchStatus.FAILED
    assert [error.code for error in batch.errors] == codes
    assert batch.failed_at is not None and "errors" in batch.reason.message


async def test_files_that_cannot_be_written_now_are_written_later(world: World, gateway, clock, monkeypatch) -> None:
    batch = await world.started(rows(2))
    write, broken = world.files.write, True

    async def sometimes(*arguments, **more):
        if broken:
            raise OSError("no space left on device")
        return await write(*arguments, **more)

    monkeypatch.setattr(world.files, "write", sometimes)
    async with running(world, gateway):
        await eventually(lambda: len(gateway.answered) == 2)

        async def retrying() -> bool:
            await world.reconcile(1)
            return (await world.get(batch)).reason.code == "retrying"

        await eventually(retrying)
    assert (await world.get(batch)).status is BatchStatus.FINALIZING
    broken = False
    await world.reconcile()
    assert (await world.get(batch)).status is BatchStatus.FINALIZING, "not before its time"
    clock.advance(seconds=1)
    batch = await ended(world, batch)
    assert (batch.status, len(await world.results(batch))) == (BatchStatus.COMPLETED, 2)


async def test_a_controller_that_dies_between_the_two_files_leaves_no_third(world: World, gateway, clock) -> None:
    gateway.answers = lambda asked: completion(asked) if asked.ticket.line == 1 else refusal(400, "bad_request")
    batch = await world.started(rows(2))
    async with running(world, gateway):

        async def finalizing() -> bool:
            await world.reconcile(1)
            return (await world.get(batch)).status is BatchStatus.FINALIZING

        await eventually(finalizing)
    (row_,) = await world.reconciler.claim(10)
    await world.reconciler.step(row_)  # both files are written, and nobody applies it
    files = (await world.files.list(world.people.customer, purpose="batch_output")).data
    assert len(files) == 2
    clock.advance(seconds=31)
    batch = await ended(world, batch)
    assert {batch.output_file, batch.error_file} == {file.id for file in files}
    assert len((await world.files.list(world.people.customer, purpose="batch_output")).data) == 2


async def test_who_lost_the_lease_writes_neither_files_nor_status(world: World, gateway, clock) -> None:
    batch = await world.started(rows(2))
    async with running(world, gateway):

        async def finalizing() -> bool:
            await world.reconcile(1)
            return (await world.get(batch)).status is BatchStatus.FINALIZING

        await eventually(finalizing)
    (slow,) = await world.reconciler.claim(10)
    clock.advance(seconds=31)
    (fast,) = await world.reconciler.claim(10)
    with pytest.raises(Exception) as lost:
        await world.reconciler.step(slow)
    assert type(lost.value).__name__ == "LeaseLost"
    assert not (await world.files.list(world.people.customer, purpose="batch_output")).data
    await world.reconciler.apply(fast, await world.reconciler.step(fast))
    assert (await world.get(batch)).status is BatchStatus.COMPLETED


async def test_completions_and_embeddings_are_sent_where_they_belong(world: World, gateway: FakeGateway) -> None:
    gateway.answers = lambda asked: Reply(200, {"data": []})
    lines = [row("a", url="/v1/embeddings", input="x"), row("b", url="/v1/embeddings", input="y")]
    batch = await world.started(lines, endpoint=Endpoint.EMBEDDINGS)
    async with running(world, gateway):
        batch = await ended(world, batch)
    assert {asked.path for asked in gateway.asked} == {"/v1/embeddings"}
    assert batch.usage.prompt == 0
