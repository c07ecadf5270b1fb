"""Usage facts of an attempt: one for each meter and clock hour, closed at the hour's or the attempt's end; and
corrections for what is not charged of it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from skerry.compute.model import Attempt, Exclusion, MountKind, Outcome, Workload, WorkloadKind
from skerry.kernel.clock import floor_hour, hours, rfc3339
from skerry.kernel.ids import derived_uuid
from skerry.metering.model import Dims, Meter, UsageFact

_SECOND: Final = timedelta(seconds=1)
_BYTES_MAX: Final = 1 << 53
EGRESS: Final = "egress_bytes"
"""In a rank's report: what it has sent since it began to count."""


@dataclass(frozen=True, slots=True)
class Egress:
    """What an attempt has sent: `total`, and what each rank's counter stood at when it was last seen."""

    total: int = 0
    counters: tuple[int, ...] = ()

    def counted(self, reports: Sequence[Mapping[str, Any] | None]) -> "Egress":
        """A counter that is lower than before has begun anew; what is no number of bytes counts as before."""
        total, counters = self.total, list(self.counters) + [0] * (len(reports) - len(self.counters))
        for rank, report in enumerate(reports):
            value = (report or {}).get(EGRESS)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _BYTES_MAX:
                continue
            total += value - counters[rank] if value >= counters[rank] else value
            counters[rank] = value
        return replace(self, total=total, counters=tuple(counters))


def closed_facts(
    workload: Workload, attempt: Attempt, through: datetime, exclusions: Iterable[Exclusion] = ()
) -> list[UsageFact]:
    """Facts for what has run since `metered_through`, up to `through`: a full hour, or the attempt's end.

    Seconds are whole: each hour has the whole seconds that were full since `ready_at` by its end, less those of the
    hours before, so that the sum is the whole seconds of the attempt and nothing is lost at the cuts.
    """
    if attempt.ready_at is None:
        return []
    begin = attempt.metered_through or attempt.ready_at
    facts = [
        _fact(workload, attempt, Meter.ACCELERATOR_SECONDS, t0, t1, quantity)
        for t0, t1 in hours(begin, through)
        if (quantity := accelerator_seconds(attempt, t0, t1)) > 0
    ]
    if (sent := attempt.egress_bytes - attempt.egress_metered) > 0 and begin < through:
        # Counted now and then, so it is the last of these hours in which it was seen.
        t0, t1 = list(hours(begin, through))[-1]
        facts.append(_fact(workload, attempt, Meter.EGRESS_BYTES, t0, t1, sent))
    return facts + [
        fact for one in exclusions for fact in corrections(workload, attempt, one, begin, through) if fact.quantity
    ]


def corrections(
    workload: Workload, attempt: Attempt, one: Exclusion, begin: datetime, through: datetime
) -> list[UsageFact]:
    """What is taken off the facts of `[begin, through)`: never more than they have, as exclusions do not overlap."""
    return [
        _fact(workload, attempt, Meter.ACCELERATOR_SECONDS, t0, t1, -quantity, "excluded", one.key)
        for t0, t1 in hours(max(begin, one.start), min(through, one.end))
        if (quantity := accelerator_seconds(attempt, t0, t1)) > 0
    ]


def accelerator_seconds(attempt: Attempt, t0: datetime, t1: datetime) -> int:
    """Whole seconds, counted from when it was ready."""
    if attempt.ready_at is None or t1 <= attempt.ready_at:
        return 0
    t0 = max(t0, attempt.ready_at)
    return attempt.accelerators * ((t1 - attempt.ready_at) // _SECOND - (t0 - attempt.ready_at) // _SECOND)


def beside(start: datetime, end: datetime, others: Iterable[Exclusion]) -> list[tuple[datetime, datetime]]:
    """What of a window lies in none of the others."""
    found, at = [], start
    for one in sorted(others, key=lambda one: one.start):
        if one.end <= at or one.start >= end:
            continue
        if one.start > at:
            found.append((at, one.start))
        at = one.end
    return [*found, (at, end)] if at < end else found


def lost_with(workload: Workload, attempt: Attempt) -> bool:
    """All that the attempt did was lost with it, through our fault. What keeps checkpoints begins again from these:
    then the product that made it says how much was lost."""
    keeps = any(mount.kind is MountKind.CHECKPOINTS for mount in workload.spec.mounts)
    return attempt.outcome is Outcome.LOST and workload.kind is WorkloadKind.JOB and not keeps


def _fact(
    workload: Workload, attempt: Attempt, meter: Meter, t0: datetime, t1: datetime, quantity: int, *kind: str
) -> UsageFact:
    return UsageFact(
        id=derived_uuid("attempt", attempt.id, meter.value, *kind, rfc3339(floor_hour(t0))),
        meter=meter,
        quantity=quantity,
        project=workload.project,
        resource=workload.resource,
        t0=t0,
        t1=t1,
        dims=Dims.of({name: value for name, value in dims_of(workload, attempt).items() if value}),
    )


def dims_of(workload: Workload, attempt: Attempt) -> dict[str, str | None]:
    return {
        "sku": attempt.sku or workload.spec.sku,
        "model": workload.spec.model,
        "site": attempt.site,
        "capacity_class": workload.spec.capacity_class.value,
        "charge_by": workload.spec.charge_by.value,
    }
