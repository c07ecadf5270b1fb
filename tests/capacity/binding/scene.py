"""A small fleet in a real database, reservations as admission leaves them, and engines that say what a test says."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, insert, select, update

from skerry.capacity.binding.model import BindingReason, Handover
from skerry.capacity.binding.reconciler import LEAD, ReservationReconciler
from skerry.capacity.binding.store import BindingStore
from skerry.capacity.binding.tables import reservation_bindings
from skerry.capacity.claims.store import ClaimStore
from skerry.capacity.model import ReservationStatus
from skerry.capacity.tables import reservation_legs, reservations
from skerry.db.database import Database
from skerry.fleet import tables as fleet_tables
from skerry.fleet.model import NodeStatus
from skerry.fleet.service import Fleet
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import new_id
from skerry.metering.service import Metering
from skerry.metering.tables import usage_facts
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Outbox

SKU, SITE = "h100.8x", "no"
PROJECT = "proj_1"
T0 = FakeClock().now()


def at(minutes):
    return T0 + timedelta(minutes=minutes)


class Engines:
    """All nodes are ready but those a test names, with a reason; `away` says that nobody answers."""

    def __init__(self):
        self.missing: dict[str, BindingReason] = {}
        self.asked: list[list[str]] = []

    async def look(self, nodes, reservation):
        self.asked.append([node.hostname for node in nodes])
        return {node.id: self._word(node.hostname) for node in nodes}

    def _word(self, hostname):
        code = self.missing.get(hostname)
        return Handover(True) if code is None else Handover(False, code, f"{hostname}: {code}.")


@dataclass
class Scene:
    database: Database
    clock: FakeClock
    engines: Engines = field(default_factory=Engines)
    settled: list[str] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.events = EventLog(self.clock)
        self.metering = Metering(self.database, self.clock)
        self.fleet = Fleet(self.database, self.clock)
        self.claims = ClaimStore()
        self.reconciler = ReservationReconciler(
            self.database,
            self.clock,
            self.fleet,
            self.events,
            Outbox(self.clock),
            self.metering,
            self.engines,
            settlement=self,
        )

    async def over(self, tx, reservation, now):
        self.settled.append(reservation)

    # The world

    async def build(self, leaves=1, nodes=4):
        """Leaves `leaf_0`, `leaf_1`, … with so many nodes named `a0-1`, `a0-2`, …"""
        shape = {"accelerator": "H100", "accelerators_per_node": 8, "cpu": 8, "memory": 1, "nvlink": True}
        async with self.database.transaction() as tx:
            made = {"created_at": T0}
            await tx.execute(insert(fleet_tables.sites).values(id="site_1", name=SITE, **made))
            await tx.execute(insert(fleet_tables.halls).values(id="hall_1", name="hall", site_id="site_1", **made))
            await tx.execute(insert(fleet_tables.skus).values(id="sku_1", name=SKU, **shape, **made))
            for number in range(leaves):
                leaf = f"leaf_{number}"
                await tx.execute(insert(fleet_tables.leaves).values(id=leaf, name=leaf, hall_id="hall_1", **made))
                for node in range(1, nodes + 1):
                    await self._add_node(tx, leaf, f"a{number}-{node}")
        return self

    async def _add_node(self, tx, leaf, hostname):
        self.nodes[hostname] = f"node_{hostname}"
        await tx.execute(
            insert(fleet_tables.nodes).values(
                id=self.nodes[hostname],
                hostname=hostname,
                sku_id="sku_1",
                leaf_id=leaf,
                accelerators=[{"index": n, "type": "H100"} for n in range(8)],
                status=NodeStatus.READY.value,
                created_at=T0,
                updated_at=T0,
            )
        )

    async def set_node(self, hostname, status, *, at=None):
        async with self.database.transaction() as tx:
            await tx.execute(
                update(fleet_tables.nodes)
                .where(fleet_tables.nodes.c.hostname == hostname)
                .values(status=status.value, updated_at=at or self.clock.now())
            )
            await BindingStore().hint_leaves(tx, None, self.clock.now())

    async def reserve(self, *legs, status=ReservationStatus.CONFIRMED, id=None, expires_at=None):
        """Legs as (leaf number, nodes, start, end), in minutes."""
        id = id or new_id("res")
        starts, ends = [at(leg[2]) for leg in legs], [at(leg[3]) for leg in legs]
        row = {
            "id": id,
            "project": PROJECT,
            "organization": "org_1",
            "name": id,
            "sku": SKU,
            "status": status.value,
            "status_reason": {"code": "bought", "message": ""},
            "scope": "any",
            "scope_required": False,
            "price": {},
            "energy": {},
            "tags": {},
            "start_at": min(starts),
            "end_at": max(ends),
            "node_seconds": 1,
            "expires_at": expires_at,
            "created_by": "test",
            "created_at": T0,
            "updated_at": T0,
        }
        async with self.database.transaction() as tx:
            await tx.execute(insert(reservations).values(**row))
            for leg in legs:
                await self._leg(tx, id, *leg, expires_at=expires_at)
        return id

    async def _leg(self, tx, id, leaf, nodes, start, end, expires_at=None):
        name = f"leaf_{leaf}"
        place = {"leaf": name, "leaf_name": name, "hall": "hall", "site": SITE, "sku": SKU}
        window = {"start_at": at(start), "end_at": at(end), "expires_at": expires_at}
        leg = {"id": new_id("leg"), "reservation": id, "project": PROJECT, "nodes": nodes, "live": True}
        await tx.execute(insert(reservation_legs).values(**leg, **place, **window))

    async def change(self, id, *legs, end=None, status=None, **values):
        """Replace the legs of a reservation, as a change does."""
        async with self.database.transaction() as tx:
            known = reservations.c.id == id
            if legs:
                old = reservation_legs.c.reservation == id
                await tx.execute(reservation_legs.delete().where(old))
                for leg in legs:
                    await self._leg(tx, id, *leg)
                values |= {"start_at": at(min(leg[2] for leg in legs)), "end_at": at(max(leg[3] for leg in legs))}
            if status is not None:
                values["status"] = status.value
            await tx.execute(update(reservations).where(known).values(**values))
            await BindingStore().hint(tx, [id], self.clock.now())

    # What the controller does

    async def settle(self, most=60):
        """Step until nothing is due."""
        for _ in range(most):
            rows = await self.reconciler.claim(8)
            if not rows:
                return
            for row in rows:
                await self.reconciler.apply(row, await self.reconciler.step(row))
        raise AssertionError("it never comes to rest")

    async def until(self, minute):
        """Let time pass, and look whenever something is due, though not more than once a minute."""
        await self.settle()
        while self.clock.now() < at(minute):
            soon = self.clock.now() + timedelta(minutes=1)
            self.clock.at = min(at(minute), max(soon, await self._due() or at(minute)))
            await self.settle()

    async def _due(self):
        rows, known = reservation_bindings.c, select(reservation_bindings.c.id)
        async with self.database.reading() as tx:
            due = (await tx.execute(select(func.min(rows.due_at)).where(rows.ended_at.is_(None)))).scalar()
            coming = select(func.min(reservations.c.start_at)).where(reservations.c.id.not_in(known))
            start = (await tx.execute(coming)).scalar()
        return min((when for when in (due, start and start - LEAD) if when is not None), default=None)

    # What came of it

    async def status(self, id):
        async with self.database.reading() as tx:
            row = (await tx.execute(select(reservations).where(reservations.c.id == id))).one()
        return row.status, row.status_reason["code"]

    async def bound(self, id, *, now: datetime | None = None):
        """Host names of the nodes it has now or later."""
        names = {node: hostname for hostname, node in self.nodes.items()}
        async with self.database.reading() as tx:
            live = await self.claims.of_holders(tx, [id], live_at=now or self.clock.now())
        return sorted(names[one.node] for one in live)

    async def facts(self, id):
        async with self.database.reading() as tx:
            rows = await tx.execute(
                select(usage_facts)
                .where(usage_facts.c.resource == id)
                .order_by(usage_facts.c.t0, usage_facts.c.quantity.desc())
            )
            return [((row.t0 - T0) / timedelta(minutes=1), row.quantity) for row in rows]

    async def timeline(self, id):
        async with self.database.reading() as tx:
            return [event.type for event in (await self.events.list(tx, PROJECT, id)).data]
