"""Creating, estimating, listing and cancelling; who sees what."""

from dataclasses import replace
from decimal import Decimal

import pytest

from skerry.artifacts.files.errors import UnknownFile
from skerry.identity.model import Scope
from skerry.inference.batches import service as service_module
from skerry.inference.batches.errors import (
    BatchNotCancellable,
    KeyElsewhere,
    NotABatchFile,
    TooManyBatches,
    UnknownBatch,
)
from skerry.inference.batches.model import BatchStatus, Endpoint, NewBatch
from skerry.kernel.errors import Malformed
from tests.batches.conftest import World, route, row, rows


async def test_a_batch_says_what_it_is_from_the_beginning(world: World, clock) -> None:
    batch = await world.create(rows(2), metadata={"for": "me"})
    found = await world.batches.get(world.people.customer, batch.id)
    assert found == batch
    assert found.id.startswith("batch_")
    assert (found.status, found.key, dict(found.metadata)) == (
        BatchStatus.VALIDATING, world.people.customer.key_id, {"for": "me"},
    )  # fmt: skip
    assert (found.expires_at - found.created_at).total_seconds() == 24 * 3600
    assert found.reason.message


async def test_what_cannot_be_a_batch_is_refused_at_once(world: World) -> None:
    who, create = world.people.customer, world.batches.create
    good, other = await world.upload(rows(1)), await world.upload(rows(1), purpose="other")
    with pytest.raises(UnknownFile):
        await create(who, NewBatch("file-unknown", Endpoint.CHAT))
    with pytest.raises(NotABatchFile):
        await create(who, NewBatch(other, Endpoint.CHAT))
    with pytest.raises(Malformed):
        await create(who, NewBatch(good, Endpoint.CHAT, "1 day"))
    assert (await world.batches.list(who, None, 10)) == ([], False)


async def test_another_project_s_files_and_batches_are_not_there(world: World) -> None:
    mine, stranger = await world.create(rows(1)), world.people.operator
    assert stranger.project_id != mine.project
    with pytest.raises(UnknownFile):
        await world.batches.create(stranger, NewBatch(mine.input_file, Endpoint.CHAT))
    with pytest.raises(UnknownBatch):
        await world.batches.get(stranger, mine.id)
    with pytest.raises(UnknownBatch):
        await world.batches.cancel(stranger, mine.id)
    assert await world.batches.list(stranger, None, 10) == ([], False)
    assert await world.batches.list(stranger, mine.id, 10) == ([], False)


async def test_a_project_may_have_so_many_open_batches(world: World, monkeypatch) -> None:
    monkeypatch.setattr(service_module, "MAX_OPEN", 2)
    first = await world.create(rows(1))
    await world.create(rows(1))
    with pytest.raises(TooManyBatches):
        await world.create(rows(1))
    await world.create(rows(1), replace(world.people.operator, operator=False))
    await world.cancel(first)
    await world.reconcile()
    await world.create(rows(1))


async def test_an_operator_s_key_makes_no_batch_for_another_project(world: World) -> None:
    """Gateways would refuse each of its rows: the key calls models for its own project."""
    elsewhere = world.people.operator
    file = await world.upload(rows(1), who=elsewhere)
    with pytest.raises(KeyElsewhere):
        await world.batches.create(elsewhere, NewBatch(file, Endpoint.CHAT))


async def test_batches_are_listed_newest_first_page_by_page(world: World, clock) -> None:
    made = []
    for _ in range(5):
        made.append((await world.create(rows(1))).id)
    ordered = sorted(made, reverse=True)
    first, more = await world.batches.list(world.people.customer, None, 3)
    assert ([batch.id for batch in first], more) == (ordered[:3], True)
    rest, more = await world.batches.list(world.people.customer, first[-1].id, 3)
    assert ([batch.id for batch in rest], more) == (ordered[3:], False)


async def test_what_has_ended_cannot_be_cancelled(world: World) -> None:
    batch = await world.create([b"nonsense"])
    await world.reconcile()
    assert (await world.get(batch)).status is BatchStatus.FAILED
    with pytest.raises(BatchNotCancellable):
        await world.cancel(batch)


async def test_what_moves_on_while_it_is_being_cancelled_is_cancelled(world: World, monkeypatch) -> None:
    batch = await world.create(rows(2))
    look, seen = world.batches._require, []

    async def and_then_it_moves_on(tx, principal, id):
        found = await look(tx, principal, id)
        seen.append(found.status)
        if found.status is BatchStatus.VALIDATING:
            await world.reconcile(1)
        return found

    monkeypatch.setattr(world.batches, "_require", and_then_it_moves_on)
    assert (await world.cancel(batch)).status is BatchStatus.CANCELLING
    assert seen == [BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING]


async def test_each_step_is_in_the_timeline(world: World) -> None:
    batch = await world.create(rows(2))
    await world.reconcile(1)
    await world.cancel(batch)
    await world.reconcile()
    async with world.db.reading() as tx:
        events = (await world.batches.events.list(tx, batch.project, batch.id)).data
    assert [event.type for event in events] == [
        "batch.created", "batch.in_progress", "batch.cancelling", "batch.cancelled",
    ]  # fmt: skip


async def test_an_estimate_bounds_the_cost_at_half_the_price_and_starts_nothing(world: World, routes) -> None:
    routes.found = [route("smol", context=2048), route("theirs", project="proj_other")]
    lines = [
        row("a", max_tokens=100),
        row("b", max_tokens=50, n=2),
        row("c", model="unheard-of"),
        row("d", model="theirs"),
    ]
    file = await world.upload(lines)
    who = world.people.customer
    estimate = await world.batches.estimate(who, NewBatch(file, Endpoint.CHAT))
    assert (estimate.rows, dict(estimate.models)) == (4, {"smol": 2, "unheard-of": 1, "theirs": 1})
    assert estimate.unknown == ("theirs", "unheard-of")
    # Completions: 200 tokens at half of 0.10 a million; prompts: up to their bytes and what a template adds.
    completions = Decimal("200") * Decimal("0.05") / 10**6
    assert completions < estimate.highest_cost < completions + Decimal("1000") * Decimal("0.025") / 10**6
    assert estimate.currency == "USD"
    assert await world.batches.list(who, None, 10) == ([], False)
    wrong = await world.batches.estimate(who, NewBatch(file, Endpoint.EMBEDDINGS))
    assert {error.code for error in wrong.errors} == {"mismatched_endpoint"}


async def test_an_estimate_covers_what_a_key_may_call(world: World, routes, people) -> None:
    routes.found = [route("smol"), route("big")]
    file = await world.upload([row("a", model="big")])
    allowed = type(people.customer)(
        **{
            name: getattr(people.customer, name)
            for name in people.customer.__dataclass_fields__
            if name not in ("models", "scopes")
        },
        models=frozenset({"smol"}),
        scopes=frozenset({Scope.INFERENCE}),
    )
    estimate = await world.batches.estimate(allowed, NewBatch(file, Endpoint.CHAT))
    assert (estimate.unknown, estimate.highest_cost) == (("big",), 0)
