"""Inference on a real database, with a compute that does what the test says."""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from skerry.artifacts.model import EngineKind, ModelSource, NewModel, SourceKind
from skerry.billing.service import Billing
from skerry.compute.engines.base import LogChunk
from skerry.compute.errors import UnknownWorkload
from skerry.compute.model import Attempt, Desired, ReasonCode, Workload, WorkloadStatus
from skerry.fleet.model import Machine
from skerry.fleet.service import Fleet
from skerry.identity.access import Access
from skerry.inference.engines.base import Task
from skerry.inference.engines.external import ExternalDriver
from skerry.inference.engines.llamacpp.driver import LlamaCppDriver
from skerry.inference.estimates import Estimates
from skerry.inference.probing import ProbeFailed
from skerry.inference.reconciler import EndpointReconciler
from skerry.inference.routes import router
from skerry.inference.service import Endpoints, Inference
from skerry.kernel.errors import SkerryError
from skerry.kernel.ids import AttemptId, WorkloadId, new_id
from skerry.metering.service import Metering
from skerry.runtime.outbox import Message
from skerry.runtime.state import Reason
from tests.artifacts.conftest import (  # noqa: F401
    catalogue,
    events,
    identity,
    keyring,
    people,
    prices,
)
from tests.artifacts.gguf_files import write
from tests.inference.scene import Desk, Scene


class FakeCompute:
    """Workloads that change only when the test says so."""

    def __init__(self, clock) -> None:
        self.clock = clock
        self.workloads: dict[str, Workload] = {}
        self.marked: list[str] = []
        self.written: dict[str, bytes] = {}
        self.ports = 5000

    async def create_workload(self, tx, project, spec):
        now = self.clock.now()
        workload = Workload(
            id=WorkloadId(new_id("wl")), project=project, kind=spec.kind, name=spec.name, resource=spec.resource,
            spec=spec, status=WorkloadStatus.PENDING, reason=Reason(ReasonCode.NEW, "Waiting."), desired=Desired.RUN,
            restarts=0, failures=0, created_at=now, updated_at=now, due_at=now,
        )  # fmt: skip
        self.workloads[workload.id] = workload
        return workload

    async def stop_workload(self, tx, project, id, reason):
        self._put(id, desired=Desired.STOP)
        return self.workloads[id]

    async def get(self, tx, project, id):
        if id not in self.workloads:
            raise UnknownWorkload(f"no {id}")
        return self.workloads[id]

    async def mark_ready(self, tx, project, attempt):
        self.marked.append(attempt)
        return True

    # What the test makes happen

    @property
    def only(self) -> Workload:
        (one,) = [w for w in self.workloads.values() if w.status is not WorkloadStatus.ENDED]
        return one

    @property
    def live(self) -> list[Workload]:
        """Those that have not ended, in the order in which they were made."""
        return [w for w in self.workloads.values() if w.status is not WorkloadStatus.ENDED]

    def run_all(self, slots: int = 4) -> None:
        """What is wanted and does not run yet starts and reports; what is not wanted ends."""
        for workload in self.live:
            if workload.desired is Desired.STOP:
                self._put(workload.id, status=WorkloadStatus.ENDED)
            elif workload.status is WorkloadStatus.PENDING:
                self.ports += 1
                self.starts(self.ports, slots, workload)

    async def logs(self, project, id, rank=0, offset=0, limit=1 << 18):
        text = self.written.get(id, b"")
        return LogChunk(text[offset : offset + limit], offset, len(text), ended=False)

    async def follow_logs(self, project, id, rank=0, offset=0):
        yield self.written.get(id, b"")[offset:]

    def starts(self, port: int | None = 4001, slots: int = 4, workload: Workload | None = None) -> str:
        """A new attempt; with a port it has reported."""
        workload = workload or self.only
        n = workload.attempt.n + 1 if workload.attempt else 1
        report = {"address": f"http://127.0.0.1:{port}", "slots": slots} if port else None
        attempt = Attempt(
            id=AttemptId(new_id("att")), workload=workload.id, project=workload.project, n=n, engine="embedded",
            nodes=("local-1",), accelerators=0, devices=(), site="local", created_at=self.clock.now(), report=report,
        )  # fmt: skip
        status = WorkloadStatus.RUNNING if port else WorkloadStatus.STARTING
        self._put(workload.id, status=status, attempt=attempt)
        return attempt.id

    def dies(self, why: str = "exit code 1", failures: int | None = None, workload: Workload | None = None) -> None:
        workload = workload or self.only
        failures = workload.failures + 1 if failures is None else failures
        attempt = replace(workload.attempt, ended_at=self.clock.now())
        reason = Reason(ReasonCode.BACKING_OFF, f"Attempt {attempt.n}: {why}")
        self._put(workload.id, status=WorkloadStatus.PENDING, attempt=attempt, failures=failures, reason=reason)

    def ends(self) -> None:
        self._put(self.only.id, status=WorkloadStatus.ENDED)

    def _put(self, id, **changes) -> None:
        self.workloads[id] = replace(self.workloads[id], **changes)


@dataclass
class FakeProber:
    """Says what the test wants; remembers what was asked."""

    refusal: str | None = None
    in_flight: int | None = 0
    asked: list[tuple] = field(default_factory=list)

    async def complete(self, address, key, model, task=Task.COMPLETION):
        self.asked.append(("complete", address, key, model))
        self._answer()

    async def healthy(self, address, key):
        self.asked.append(("healthy", address, key))
        self._answer()
        return self.in_flight

    def _answer(self) -> None:
        if self.refusal:
            raise ProbeFailed(self.refusal)


class Cloud:
    """All of it, and verbs for tests."""

    def __init__(self, inference, compute, prober, people, tmp_path) -> None:  # noqa: F811
        self.inference, self.compute, self.prober, self.people = inference, compute, prober, people
        self.reconciler = EndpointReconciler(inference, compute, prober)
        self.clock = inference.clock
        self.tmp_path = tmp_path

    async def add_local(self, name: str = "near"):
        path = write(self.tmp_path / f"{name}.gguf")
        new = NewModel(name, ModelSource(SourceKind.PATH, str(path)))
        return await self.inference.catalogue.add_model(self.people.operator, new)

    async def add_upstream(self, name: str = "far", **more):
        new = NewModel(name, ModelSource(SourceKind.UPSTREAM, "http://far.example", more.pop("upstream_model", None)))
        return await self.inference.catalogue.add_model(self.people.operator, replace(new, **more))

    async def remove(self, name: str):
        return await self.inference.catalogue.remove_model(self.people.operator, name)

    async def reconcile(self, rounds: int = 1, *, hint: bool = True) -> int:
        """Look at every endpoint that is due; how many looks changed something."""
        changed = 0
        for _ in range(rounds):
            if hint:
                await self.hint()
            for row in await self.reconciler.claim(10):
                changed += await self.reconciler.apply(row, await self.reconciler.step(row))
        return changed

    async def hint(self) -> None:
        for workload in self.compute.workloads.values():
            payload = {"workload": workload.id, "project": workload.project, "resource": workload.resource}
            await self.inference.workload_changed(Message("msg_1", "workload", payload, self.clock.now(), 0))

    async def endpoint(self, name: str = "near"):
        return await self.inference.get_endpoint(self.people.operator, name)

    async def routes(self):
        async with self.inference.db.reading() as tx:
            return {route.name: route for route in await self.inference.routes(tx)}

    async def ready(self, name: str = "near"):
        """A model whose endpoint is ready."""
        model = await self.add_local(name)
        await self.reconcile()
        self.compute.starts()
        await self.reconcile()
        assert (await self.endpoint(name)).endpoint.status == "ready"
        return model


@pytest.fixture
def compute(clock) -> FakeCompute:
    return FakeCompute(clock)


@pytest.fixture
def prober() -> FakeProber:
    return FakeProber()


@pytest.fixture
def inference(database, clock, events, keyring, catalogue) -> Inference:  # noqa: F811
    drivers = {
        EngineKind.LLAMACPP: LlamaCppDriver(memory_bytes=4 * 1024**3),
        EngineKind.EXTERNAL: ExternalDriver(),
    }
    service = Inference(database, clock, events, keyring, catalogue, drivers)
    catalogue.observe(service)
    return service


@pytest.fixture
async def endpoints(inference, compute, identity, database, clock, events) -> Endpoints:  # noqa: F811
    """With prices, and a fleet of one machine with two cores."""
    fleet = Fleet(database, clock)
    billing = Billing(database, clock, events, identity, Metering(database, clock), credit_limit=Decimal("10.00"))
    await billing.bootstrap("EUR")
    async with database.transaction() as tx:
        await fleet.discover_local(tx, Machine("local-1", 2, 8 << 30))
    return Endpoints(inference, compute, Estimates(database, clock, billing, fleet), identity)


@pytest.fixture
def cloud(inference, compute, prober, people, tmp_path: Path) -> Cloud:  # noqa: F811
    return Cloud(inference, compute, prober, people, tmp_path)


@pytest.fixture
async def http(inference, endpoints, identity):  # noqa: F811
    app = FastAPI()
    app.include_router(router(inference, endpoints, Access(identity)), prefix="/api/v1")

    @app.exception_handler(SkerryError)
    async def answer(request: Request, error: SkerryError) -> JSONResponse:
        return JSONResponse({"code": error.code, "detail": error.detail}, error.status)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as client:
        yield client


@pytest.fixture
def operator(http, people):  # noqa: F811
    return Desk(http, people.operator_secret)


@pytest.fixture
def customer(http, people):  # noqa: F811
    return Desk(http, people.customer_secret)


@pytest.fixture
def scene(cloud) -> Scene:
    return Scene(cloud)
