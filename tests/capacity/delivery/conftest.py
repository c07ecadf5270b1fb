"""Everything that sells and delivers, without processes: time passes when a test says so."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from skerry.capacity.binding.reconciler import ReservationReconciler
from skerry.identity.model import Principal
from skerry.server.compose import Services
from tests.capacity.binding.scene import Engines


@dataclass
class Days:
    """Lets time pass, with a look of the controller whenever a minute is over."""

    services: Services
    principal: Principal
    engines: Engines = field(default_factory=Engines)

    def __post_init__(self):
        self.reconciler = ReservationReconciler(
            self.services.db,
            self.services.clock,
            self.services.fleet,
            self.services.events,
            self.services.outbox,
            self.services.metering,
            self.engines,
            settlement=self.services.billing.reserved,
        )

    async def settle(self):
        for _ in range(60):
            rows = await self.reconciler.claim(8)
            if not rows:
                return
            for row in rows:
                await self.reconciler.apply(row, await self.reconciler.step(row))
        raise AssertionError("it never comes to rest")

    async def until(self, moment, step=timedelta(minutes=15)):
        await self.settle()
        while self.services.clock.now() < moment:
            self.services.clock.at = min(moment, self.services.clock.now() + step)
            await self.settle()
        while (await self.services.metering.roll_up_once()).more:
            pass

    async def facts(self, id):
        """Node-seconds on record: promised, delivered."""
        async with self.services.db.reading() as tx:
            total = await self.services.capacity.deliveries.total(tx, self.principal.project_id, id)
        return total.promised, total.delivered


@pytest.fixture
async def days(services, principal):
    return Days(services, principal)
