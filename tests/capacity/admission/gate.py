"""Requests to admission over the binder's scene, in few words."""

from datetime import timedelta

from sqlalchemy import update

from skerry.capacity.admission.model import AdmissionRequest, Host, NotNow, Placed
from skerry.capacity.admission.service import Admission
from skerry.capacity.claims.tables import capacity_claims
from skerry.fleet import tables as fleet_tables
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import new_id
from tests.capacity.binding.scene import PROJECT, at

ON_DEMAND, SPOT, RESERVED = CapacityClass.ON_DEMAND, CapacityClass.SPOT, CapacityClass.RESERVED


class Gate:
    def __init__(self, scene):
        self.scene = scene
        self.admission = Admission(scene.clock, scene.fleet, notice=timedelta(seconds=60))

    def request(self, accelerators=8, *, minutes=None, hosts=None, kind=ON_DEMAND, workload=None, **values):
        names = hosts if hosts is not None else sorted(self.scene.nodes)
        return AdmissionRequest(
            project=values.pop("project", PROJECT),
            workload=workload or new_id("wl"),
            capacity_class=kind,
            accelerators=accelerators,
            hosts=tuple(Host(name, tuple(range(8))) for name in names),
            max_duration_seconds=None if minutes is None else minutes * 60,
            **values,
        )

    async def admit(self, *args, **values):
        async with self.scene.database.transaction() as tx:
            return await self.admission.admit(tx, self.request(*args, **values))

    async def where(self, *args, **values):
        """Host and accelerators of a request for one node, or why there are none."""
        answer = await self.admit(*args, **values)
        if isinstance(answer, NotNow):
            return answer.reason.value
        return answer.shares[0].host, answer.shares[0].devices

    async def hosts(self, *args, **values):
        answer = await self.admit(*args, **values)
        assert isinstance(answer, Placed), answer
        return sorted(share.host for share in answer.shares)

    async def release(self, workload):
        async with self.scene.database.transaction() as tx:
            return await self.admission.release(tx, workload)

    async def leaving(self, seconds=10):
        async with self.scene.database.reading() as tx:
            return await self.admission.leaving(tx, timedelta(seconds=seconds))

    async def pool(self, nodes):
        async with self.scene.database.transaction() as tx:
            await tx.execute(update(fleet_tables.skus).values(on_demand_nodes=nodes))

    async def spares(self, nodes):
        async with self.scene.database.transaction() as tx:
            await tx.execute(update(fleet_tables.leaves).values(spares=nodes))

    async def country(self, code):
        async with self.scene.database.transaction() as tx:
            await tx.execute(update(fleet_tables.sites).values(country=code))

    async def rows(self):
        async with self.scene.database.reading() as tx:
            return (await tx.execute(capacity_claims.select())).all()


__all__ = ["ON_DEMAND", "RESERVED", "SPOT", "Gate", "at"]
