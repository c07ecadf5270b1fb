"""Facts to try metering with."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from skerry.db.database import Database
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import ProjectId, derived_uuid
from skerry.metering.model import Dims, Meter, UsageFact
from skerry.metering.service import Metering

DEMO = ProjectId("proj_demo")
DIMS = Dims.of({"model": "smol", "site": "local", "capacity_class": "on_demand", "charge_by": "tokens", "key": "key_1"})

MakeFact = Callable[..., UsageFact]


@pytest.fixture
def metering(database: Database, clock: FakeClock) -> Metering:
    return Metering(database, clock)


@pytest.fixture
def fact(clock: FakeClock) -> MakeFact:
    """A fact that ended now, unless told otherwise; `name` fixes the id."""

    def make(
        quantity: int = 1,
        *,
        name: str | None = None,
        meter: Meter = Meter.TOKENS_PROMPT,
        project: ProjectId = DEMO,
        resource: str = "ep_1",
        t1: datetime | None = None,
        dims: Dims = DIMS,
    ) -> UsageFact:
        end = t1 or clock.now()
        return UsageFact(
            id=derived_uuid(name) if name else uuid4(),
            meter=meter,
            quantity=quantity,
            project=project,
            resource=resource,
            t0=end - timedelta(seconds=1),
            t1=end,
            dims=dims,
        )

    return make
