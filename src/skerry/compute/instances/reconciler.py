"""Brings each instance to the status that its workload and its owner's wish make; at its end lets go what it held."""

from collections.abc import Sequence
from typing import Final

from skerry.compute.instances import rules
from skerry.compute.instances.model import Instance
from skerry.compute.instances.rules import Decision
from skerry.compute.instances.service import KIND, Instances
from skerry.compute.instances.store import Claimed
from skerry.compute.model import Workload
from skerry.db.database import Tx
from skerry.kernel.clock import rfc3339
from skerry.kernel.paging import PageRequest
from skerry.runtime.reconciler import back_off_seconds

LEASE_SECONDS: Final = 15.0
TOLD_ON: Final = ("workload.limit_near", "workload.limit_reached", "workload.reclaim_notice", "workload.not_charged")
"""What is told on from the workload's timeline: what comes before an end that nobody here asked for."""
_AT_ONCE: Final = 100


class InstanceReconciler:
    """Run it with `Loop(…, wake=wakes.event("instance"))`. All there is to know is in the database, so a step is one
    transaction."""

    kind = KIND

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.store = instances.store
        self.db = instances.db
        self.clock = instances.clock

    async def claim(self, limit: int) -> Sequence[Claimed]:
        async with self.db.transaction() as tx:
            return await self.store.claim(tx, self.clock.now(), limit, LEASE_SECONDS)

    async def step(self, row: Claimed) -> None:
        """Nothing outside the database."""

    async def apply(self, row: Claimed, change: None) -> bool:
        async with self.db.transaction() as tx:
            instance = await self.store.lock(tx, row)
            if instance is None:
                return False
            workload = await self.instances.compute.get(tx, instance.project, instance.workload)
            decision = rules.decide(instance, workload)
            heard = await self._tell_on(tx, instance, row.heard)
            await self._carry_out(tx, instance, workload, decision)
            await self.store.release(tx, row, decision.due_in, self.clock.now(), {"heard": heard})
        return decision.status is not instance.status

    async def failed(self, row: Claimed, error: Exception) -> None:
        async with self.db.transaction() as tx:
            await self.store.release(tx, row, back_off_seconds(4), self.clock.now(), {})

    async def _carry_out(self, tx: Tx, instance: Instance, workload: Workload, decision: Decision) -> None:
        compute = self.instances.compute
        if decision.stop is not None:
            await compute.stop_workload(tx, instance.project, instance.workload, decision.stop)
        if decision.ready is not None:
            await compute.mark_ready(tx, instance.project, decision.ready)
        if decision.gone:
            await self.instances.volumes.detach(tx, instance.project, instance.id)
        if decision.settle is not None:
            await self.store.wish(tx, instance, decision.settle, self.clock.now())
        if decision.status is instance.status:
            if decision.reason != instance.reason:
                await self.store.explain(tx, instance, decision.reason)
            return
        await self.instances.move(tx, instance, decision.status, decision.reason)

    async def _tell_on(self, tx: Tx, instance: Instance, heard: str | None) -> str | None:
        """Warnings of the workload's timeline, in the instance's own; how far it is told on now."""
        at, _, seq = (heard or "").partition(" ")
        page = PageRequest(_AT_ONCE, (at, seq) if seq else None)
        found = await self.instances.events.list(tx, instance.project, instance.workload, page)
        kind = instance.kind.value
        for event in found.data:
            if event.type in TOLD_ON:
                await self.instances.events.record(
                    tx,
                    project=instance.project,
                    resource=instance.id,
                    resource_kind=kind,
                    type=f"{kind}.{event.type.partition('.')[2]}",
                    data=event.data,
                )
        last = found.data[-1] if found.data else None
        return heard if last is None else f"{rfc3339(last.at)} {last.seq}"
