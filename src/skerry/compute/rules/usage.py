"""Usage facts of an attempt: one for each clock hour, closed at the hour's or the attempt's end. Pure."""

from datetime import datetime, timedelta

from skerry.compute.model import Attempt, Workload
from skerry.kernel.clock import floor_hour, hours, rfc3339
from skerry.kernel.ids import derived_uuid
from skerry.metering.model import Dims, Meter, UsageFact

_SECOND = timedelta(seconds=1)


def closed_facts(workload: Workload, attempt: Attempt, through: datetime) -> list[UsageFact]:
    """Facts for what has run since `metered_through`, up to `through`: a full hour, or the attempt's end.

    Seconds are whole: each hour has the whole seconds that were full since `ready_at` by its end, less those of the
    hours before, so that the sum is the whole seconds of the attempt and nothing is lost at the cuts.
    """
    if attempt.ready_at is None:
        return []
    begin = attempt.metered_through or attempt.ready_at
    return [
        _fact(workload, attempt, t0, t1, quantity)
        for t0, t1 in hours(begin, through)
        if (quantity := attempt.accelerators * _seconds(attempt.ready_at, t0, t1)) > 0
    ]


def _seconds(ready: datetime, t0: datetime, t1: datetime) -> int:
    return (t1 - ready) // _SECOND - (t0 - ready) // _SECOND


def _fact(workload: Workload, attempt: Attempt, t0: datetime, t1: datetime, quantity: int) -> UsageFact:
    dims = {
        "sku": attempt.sku or workload.spec.sku,
        "model": workload.spec.model,
        "site": attempt.site,
        "capacity_class": workload.spec.capacity_class.value,
        "charge_by": workload.spec.charge_by.value,
    }
    meter = Meter.ACCELERATOR_SECONDS
    return UsageFact(
        id=derived_uuid("attempt", attempt.id, meter.value, rfc3339(floor_hour(t0))),
        meter=meter,
        quantity=quantity,
        project=workload.project,
        resource=workload.resource,
        t0=t0,
        t1=t1,
        dims=Dims.of({name: value for name, value in dims.items() if value}),
    )
