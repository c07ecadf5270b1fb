"""Everything a controller of workloads needs, wired for tests, and one that is driven by hand."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from skerry.compute.advance import Advance
from skerry.compute.changes import Changes
from skerry.compute.engines.base import Engine
from skerry.compute.model import Attempt, Workload, WorkloadKind, WorkloadSpec
from skerry.compute.reconciler import WorkloadReconciler
from skerry.compute.service import Compute
from skerry.db.database import Database
from skerry.fleet.model import Accelerator, Machine
from skerry.fleet.service import Fleet
from skerry.kernel.clock import Clock
from skerry.kernel.ids import ProjectId
from skerry.kernel.paging import PageRequest
from skerry.metering.service import Metering
from skerry.metering.tables import usage_facts
from skerry.runtime.events import Event, EventLog
from skerry.runtime.outbox import Outbox
from skerry.runtime.secrets import Keyring

PROJECT = ProjectId("proj_test")
MACHINE = Machine("here", 4, 1 << 34, tuple(Accelerator(index, "H100", 80 << 30) for index in range(4)))


@dataclass
class Control:
    db: Database
    clock: Clock
    engine: Engine
    compute: Compute
    reconciler: WorkloadReconciler
    events: EventLog
    fleet: Fleet

    @classmethod
    def over(cls, db: Database, clock: Clock, engine: Engine) -> "Control":
        events, outbox = EventLog(clock), Outbox(clock)
        keyring = Keyring([("k1", b"a secret of sixteen bytes and more")])
        fleet = Fleet(db, clock)
        engines = {engine.name: engine}
        advance = Advance(clock, Changes(events, outbox), fleet, Metering(db, clock), random.Random(7))
        compute = Compute(db, clock, keyring, events, outbox, engines)
        return cls(db, clock, engine, compute, WorkloadReconciler(db, clock, keyring, engines, advance), events, fleet)

    async def discover(self, machine: Machine = MACHINE, nodes: int = 1) -> None:
        async with self.db.transaction() as tx:
            await self.fleet.discover_local(tx, machine, nodes)

    async def create(self, **changes: object) -> Workload:
        async with self.db.transaction() as tx:
            return await self.compute.create_workload(tx, PROJECT, spec(**changes))

    async def get(self, workload: Workload) -> Workload:
        async with self.db.reading() as tx:
            return await self.compute.get(tx, PROJECT, workload.id)

    async def attempts(self, workload: Workload) -> Sequence[Attempt]:
        async with self.db.reading() as tx:
            return (await self.compute.attempts(tx, PROJECT, workload.id, PageRequest())).data

    async def timeline(self, workload: Workload) -> list[Event]:
        async with self.db.reading() as tx:
            return list((await self.events.list(tx, PROJECT, workload.id, PageRequest(500))).data)

    async def step(self) -> bool:
        """Work once on everything that is due. Whether anything changed."""
        changed = False
        for row in await self.reconciler.claim(100):
            change = await self.reconciler.step(row)
            changed |= await self.reconciler.apply(row, change)
        return changed

    async def settle(self, workload: Workload) -> Workload:
        """Work until nothing changes any more."""
        for _ in range(20):
            if not await self.step():
                return await self.get(workload)
        raise AssertionError("it never settles")

    async def facts(self) -> list:
        async with self.db.reading() as tx:
            return list((await tx.execute(select(usage_facts).order_by(usage_facts.c.t1))).all())


def spec(**changes: object) -> WorkloadSpec:
    values = {
        "kind": WorkloadKind.SERVICE,
        "name": "replica",
        "resource": "ep_test",
        "command": ("/bin/sleep", "60"),
        "accelerators": 2,
    }
    return WorkloadSpec(**(values | changes))
