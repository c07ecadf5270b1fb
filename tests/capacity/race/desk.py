"""Everything that sells capacity, on one database: what a server has, without HTTP."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import insert

from skerry.billing.service import Billing, KeyBudgets
from skerry.capacity.service import Capacity, CapacityPolicy, HoldLimits
from skerry.db.database import Database
from skerry.fleet import tables as fleet_tables
from skerry.fleet.model import NodeStatus
from skerry.fleet.service import Fleet
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock, SystemClock
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring

SKU = "local"
"""The one that the first price book has a price for."""


@dataclass
class Desk:
    database: Database
    clock: Clock
    identity: Identity
    billing: Billing
    capacity: Capacity

    @classmethod
    def over(cls, database: Database, clock: Clock | None = None):
        clock = clock or SystemClock()
        events = EventLog(clock)
        identity = Identity(
            database, clock, Keyring([("k1", b"a secret of the tests")]), events, budgets=KeyBudgets(clock)
        )
        metering = Metering(database, clock)
        billing = Billing(database, clock, events, identity, metering, homes=identity, credit_limit=Decimal(10**9))
        policy = CapacityPolicy(holds=HoldLimits(holds=10**6, node_seconds=10**15, repeats=10**6))
        capacity = Capacity(database, clock, events, identity, billing, Fleet(database, clock), policy)
        return cls(database, clock, identity, billing, capacity)

    async def open(self, leaves: int, nodes: int) -> str:
        """A fleet, an organization and prices; returns a key of the organization."""
        made = await self.identity.bootstrap()
        await self.billing.bootstrap("EUR")
        now = {"created_at": self.clock.now()}
        shape = {"accelerator": "cpu", "accelerators_per_node": 8, "cpu": 8, "memory": 1, "nvlink": False}
        async with self.database.transaction() as tx:
            await tx.execute(insert(fleet_tables.sites).values(id="site_1", name="site", country="NO", **now))
            await tx.execute(insert(fleet_tables.halls).values(id="hall_1", name="hall", site_id="site_1", **now))
            await tx.execute(insert(fleet_tables.skus).values(id="sku_1", name=SKU, **shape, **now))
            for leaf in range(leaves):
                place = {"id": f"leaf_{leaf}", "name": f"leaf-{leaf}", "hall_id": "hall_1"}
                await tx.execute(insert(fleet_tables.leaves).values(**place, **now))
                rows = [
                    {
                        "id": f"node_{leaf}_{node}",
                        "hostname": f"n-{leaf}-{node}",
                        "sku_id": "sku_1",
                        "leaf_id": f"leaf_{leaf}",
                        "accelerators": [{"index": n, "type": "cpu"} for n in range(8)],
                        "status": NodeStatus.READY.value,
                        "updated_at": self.clock.now(),
                        **now,
                    }
                    for node in range(nodes)
                ]
                await tx.execute(insert(fleet_tables.nodes), rows)
        assert made.project_key is not None
        return made.project_key
