"""What is sold is kept free on a Slurm that others use too: made, read back, amended, and given back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from skerry.capacity.binding.model import BindingReason, BoundNode
from skerry.compute.delivering import EngineDeliverer
from skerry.compute.engines.base import GangStatus, NodeNotReady, NodeReservation, Placement
from skerry.compute.engines.slurm.engine import SlurmEngine
from skerry.compute.engines.slurm.jobs import inside
from skerry.compute.model import Outcome
from skerry.compute.setting_aside import SettingAside
from skerry.kernel.ids import NodeId, ReservationId, new_id
from tests.compute.gangs import ended, run, shell, started, state_of
from tests.compute.slurm.cluster import Cluster

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass
class Capacity:
    """Capacity, fleet and database of a test: what is bound to whom. A node's id is `node_` and its host name."""

    bindings: dict[str, list[str]] = field(default_factory=dict)
    end: datetime = NOW + timedelta(hours=1)

    async def bound(self, tx, reservation):
        names = self.bindings.get(reservation, [])
        return [BoundNode(NodeId(f"node_{name}"), "leaf", NOW - timedelta(seconds=5), self.end, None) for name in names]

    async def find_nodes(self, tx, names):
        return {name: SimpleNamespace(id=NodeId(f"node_{name}")) for name in names}

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        yield None


@pytest.fixture
def capacity() -> Capacity:
    return Capacity()


@pytest.fixture
async def aside(engine: SlurmEngine, capacity: Capacity) -> AsyncIterator[SettingAside]:
    aside = SettingAside(capacity, capacity, capacity, {"slurm": engine})
    yield aside
    for attempt in await engine.known():
        await engine.cancel(attempt, 0)
    capacity.bindings.clear()
    await aside.tidy()
    assert not await engine.reservations()


def reservation() -> ReservationId:
    return ReservationId(new_id("res"))


async def test_what_is_bound_is_set_aside_followed_and_given_back(
    engine: SlurmEngine, capacity: Capacity, aside: SettingAside
) -> None:
    ours = reservation()
    capacity.bindings[ours] = ["local-3", "local-2"]
    assert not await aside.make(ours, {"local-2"})
    assert not await aside.make(ours, {"local-2"}), "again: no change"
    (made,) = await engine.reservations()
    assert (made.name, made.nodes, made.end) == (ours, ("local-2", "local-3"), capacity.end)
    spec = shell("sleep 1000", placements=(Placement("local-3", 1),))
    await started(engine, spec)
    capacity.bindings[ours], capacity.end = ["local-3", "local-4"], capacity.end + timedelta(hours=1)
    await aside.tidy()
    (made,) = await engine.reservations()
    assert (made.nodes, made.end) == (("local-3", "local-4"), capacity.end), "a spare, and longer"
    state = await state_of(engine, spec)
    assert state is not None and state.status is GangStatus.RUNNING
    await engine.cancel(spec.attempt, 0)
    await ended(engine, spec)
    capacity.bindings.clear()
    await aside.tidy()
    assert not await engine.reservations()


async def test_others_stay_out_and_what_capacity_let_in_runs(
    engine: SlurmEngine, cluster: Cluster, capacity: Capacity, aside: SettingAside
) -> None:
    ours = reservation()
    capacity.bindings[ours] = ["local-2"]
    await aside.make(ours, {"local-2"})
    other = cluster.command(
        "sbatch", "--parsable", "--nodelist=local-2", "--mem=100", "--output=/dev/null", "--wrap=true"
    ).strip()
    both = (Placement("local-1", 1), Placement("local-2", 1))
    state = await run(engine, shell("exit 0", placements=both))  # lent out, or its holder's: it need not say
    assert state.end is not None and state.end.outcome is Outcome.SUCCEEDED
    assert cluster.command("squeue", "-h", "-j", other, "-o", "%T") == "PENDING\n"
    cluster.command("scancel", other)


async def test_what_cannot_be_set_aside_is_not_delivered_and_says_why(
    engine: SlurmEngine, cluster: Cluster, capacity: Capacity, aside: SettingAside
) -> None:
    ours = reservation()
    capacity.bindings[ours] = ["local-2", "local-3"]
    cluster.command(
        "scontrol", "create", "ReservationName=theirs", "Nodes=local-3", "StartTime=now", "Duration=60", "Users=root"
    )
    node = SimpleNamespace(id=NodeId("node_local-3"), hostname="local-3")
    deliverer = EngineDeliverer({"slurm": engine}, aside)
    try:
        word = (await deliverer.look([node], ours))[node.id]
        assert (word.ready, word.code) == (False, BindingReason.DELIVERY_FAILED)
        assert "could not be set aside" in word.message and len(word.message) > 40
        assert not await engine.reservations(), "none in part"
    finally:
        cluster.command("scontrol", "delete", "ReservationName=theirs")
    assert (await deliverer.look([node], ours))[node.id].ready


def test_a_gang_on_nodes_of_two_reservations_has_to_go_elsewhere() -> None:
    there = [NodeReservation(name, (node,), NOW, NOW) for name, node in (("res_1", "a"), ("res_2", "b"), ("x", "c"))]
    gang = shell("true", placements=(Placement("a", 1), Placement("c", 1)))
    assert inside(gang, there).reservation == "res_1"
    assert inside(shell("true", placements=(Placement("c", 1),)), there).reservation is None
    with pytest.raises(NodeNotReady, match="res_1, res_2"):
        inside(shell("true", placements=(Placement("a", 1), Placement("b", 1))), there)
