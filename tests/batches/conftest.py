"""Batches on a real database and real files, with a gateway that does what the test says."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from skerry.artifacts.files.model import BATCH, BATCH_OUTPUT, FileLimits, Purpose
from skerry.artifacts.files.service import Files
from skerry.artifacts.files.storage import LocalStorage
from skerry.billing.service import Billing
from skerry.identity.model import Principal
from skerry.inference.batches.model import Batch, BatchStatus, Endpoint, NewBatch
from skerry.inference.batches.reconciler import BatchReconciler
from skerry.inference.batches.service import Batches
from skerry.inference.gateway.tickets import Tickets
from skerry.kernel.ids import FileId
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring
from tests.batches.fake_gateway import FakeGateway
from tests.billing.conftest import billing, identity, metering, people  # noqa: F401

KEYRING = Keyring([("k1", b"a secret of the tests")])


@dataclass
class FakeRoutes:
    """Stands for inference: what is served."""

    found: list = field(default_factory=list)

    async def routes(self, tx):
        return self.found


class World:
    """Verbs for tests."""

    def __init__(self, batches: Batches, files: Files, people, tickets: Tickets) -> None:  # noqa: F811
        self.batches, self.files, self.people, self.tickets = batches, files, people, tickets
        self.db, self.clock = batches.db, batches.clock
        self.reconciler = BatchReconciler(batches)

    async def upload(self, lines: Sequence[dict | bytes], who: Principal | None = None, purpose: str = BATCH) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            for one in lines:
                yield (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n"

        who = who or self.people.customer
        return (await self.files.create(who, filename="in.jsonl", purpose=purpose, chunks=chunks())).id

    async def create(self, lines: Sequence[dict | bytes], who: Principal | None = None, **more) -> Batch:
        who = who or self.people.customer
        new = NewBatch(await self.upload(lines, who), more.pop("endpoint", Endpoint.CHAT), **more)
        return await self.batches.create(who, new)

    async def started(self, lines: Sequence[dict | bytes], who: Principal | None = None, **more) -> Batch:
        """A batch whose rows can be sent."""
        batch = await self.create(lines, who, **more)
        await self.reconcile()
        batch = await self.get(batch)
        assert batch.status is BatchStatus.IN_PROGRESS
        return batch

    async def get(self, batch: Batch) -> Batch:
        async with self.db.reading() as tx:
            found = await self.batches.store.get(tx, batch.project, batch.id)
        assert found is not None
        return found

    async def reconcile(self, rounds: int = 4) -> None:
        """Step whatever wants a step, as the loop does."""
        for _ in range(rounds):
            for row in await self.reconciler.claim(10):
                try:
                    await self.reconciler.apply(row, await self.reconciler.step(row))
                except Exception as error:
                    await self.reconciler.failed(row, error)

    async def cancel(self, batch: Batch) -> Batch:
        return await self.batches.cancel(self.people.customer, batch.id)

    async def results(self, batch: Batch, name: str = "output") -> list[dict]:
        file = batch.output_file if name == "output" else batch.error_file
        assert file is not None, f"{batch.id} has no {name} file"
        return [json.loads(line) async for _, line in self.files.lines(batch.project, FileId(file))]


def row(custom_id: object, url: str = "/v1/chat/completions", **body) -> dict:
    given = {"model": "smol", "messages": [{"role": "user", "content": f"say {custom_id}"}], **body}
    return {"custom_id": str(custom_id), "method": "POST", "url": url, "body": given}


def rows(count: int, **body) -> list[dict]:
    return [row(n, **body) for n in range(1, count + 1)]


@pytest.fixture
def tickets() -> Tickets:
    return Tickets.of(KEYRING)


@pytest.fixture
def files(database, clock, identity, metering, tmp_path: Path) -> Files:  # noqa: F811
    storage = LocalStorage(tmp_path / "files", 0)
    limits = FileLimits(2**30, 2**30, 1000)
    # No check of the input: what is wrong with a file is for the batch to find.
    purposes = [Purpose(BATCH), Purpose(BATCH_OUTPUT, uploads=False), Purpose("other")]
    return Files(database, clock, EventLog(clock), identity, metering, storage, limits, purposes)


@pytest.fixture
def routes() -> FakeRoutes:
    return FakeRoutes()


@pytest.fixture
async def world(database, clock, identity, files, routes, billing: Billing, people, tickets) -> World:  # noqa: F811
    batches = Batches(database, clock, EventLog(clock), files, routes, billing.prices, identity)
    return World(batches, files, people, tickets)


@pytest.fixture
async def gateway(short_tmp: Path, tickets: Tickets, clock) -> AsyncIterator[FakeGateway]:
    gateway = FakeGateway(short_tmp / f"{uuid4().hex[:8]}.sock", tickets, clock)
    await gateway.start()
    yield gateway
    await gateway.stop()


def route(name: str = "smol", context: int = 2048, project: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        name=name, model_name=name, project=project, context_length=context, site="local", capacity_class="on_demand",
        charge_by="tokens",
    )  # fmt: skip
