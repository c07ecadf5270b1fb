"""What a job costs: beforehand, and so far. For display: rating is the truth."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final

from skerry.billing.model import RATED_BY, Refused, Timeline
from skerry.billing.service import Billing
from skerry.compute.model import Attempt, Workload
from skerry.compute.rules.usage import dims_of
from skerry.db.database import Database, Tx
from skerry.fleet.model import Sku
from skerry.identity.model import Principal
from skerry.kernel.clock import Clock, floor_hour
from skerry.kernel.ids import ProjectId
from skerry.kernel.money import Money, nano_from_decimal, plain
from skerry.kernel.windows import Window
from skerry.metering.model import Meter, UsageSum
from skerry.training.errors import CannotPay
from skerry.training.making import charge_by
from skerry.training.model import Estimate, NewJob

_HOUR: Final = timedelta(hours=1)
_HOUR_SECONDS: Final = 3600
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Run:
    """An attempt, and how many of its accelerator-seconds are not charged."""

    attempt: Attempt
    excluded: int = 0


class Pricing:
    def __init__(self, db: Database, clock: Clock, billing: Billing) -> None:
        self._db = db
        self._clock = clock
        self._billing = billing

    async def estimate(self, project: ProjectId, job: NewJob, sku: Sku) -> Estimate:
        """At the prices of this moment, at the full power of the nodes. What is reserved costs nothing more."""
        start = floor_hour(self._clock.now())
        window = Window(start, start + _HOUR)
        async with self._db.reading() as tx:
            prices = await self._billing.prices.timeline(tx, Window(start, start + _SECOND), project)
        used = UsageSum(window, Meter.ACCELERATOR_SECONDS, job.accelerators * _HOUR_SECONDS, _dims(job))
        (charge,) = self._billing.prices.rate([used], prices)
        hour = Money(charge.contracted_cost, prices.currency)
        seconds = job.max_duration_seconds
        most = _most(hour, seconds, job.max_cost)
        hours = seconds / _HOUR_SECONDS if seconds is not None else None
        share = min(1.0, job.accelerators_per_node / sku.accelerators_per_node) if sku.accelerators_per_node else 1.0
        known = sku.tdp_w is not None and hours is not None
        kwh = (sku.tdp_w or 0) * share * job.nodes * (hours or 0) / 1000 if known else None
        return Estimate(
            charge_by=charge_by(job).value,
            sku=sku.name,
            nodes=job.nodes,
            accelerators=job.accelerators,
            hour=hour,
            most=most,
            seconds=seconds,
            kwh=kwh,
            gco2e=None,
        )

    async def require_payable(self, principal: Principal, estimate: Estimate) -> None:
        """Raises CannotPay where a budget or the credit has less left than the first hour costs, or all of it."""
        first = estimate.hour
        if estimate.most is not None and estimate.most.amount < first.amount:
            first = estimate.most
        nano = nano_from_decimal(first.amount.quantize(Decimal("1e-9")))
        if not nano:
            return
        short = None
        try:
            async with self._db.transaction() as tx:
                short = await self._shortest(tx, principal, nano)
                raise _Undone
        except _Undone:
            pass
        if short is not None:
            raise CannotPay(
                f"it would cost {plain(first.amount)} {first.currency} within the first hour, and {short} is left",
                suggestion="Raise the budget, ask for fewer nodes, or ask the operator for credit.",
            )

    async def costs(self, tx: Tx, project: ProjectId, jobs: Sequence[tuple[Workload, Sequence[Run]]]) -> list[Money]:
        """What each of these jobs has cost so far, at the prices of the time."""
        now = self._clock.now()
        begins = [run.attempt.ready_at for _, runs in jobs for run in runs if run.attempt.ready_at is not None]
        start = min(begins, default=now)
        prices = await self._billing.prices.timeline(tx, _whole(start, now), project)
        found = []
        for workload, runs in jobs:
            pieces = [piece for run in runs for piece in _pieces(workload, run, prices, now)]
            charges = self._billing.prices.rate(pieces, prices)
            found.append(Money(sum((one.contracted_cost for one in charges), Decimal(0)), prices.currency))
        return found

    async def _shortest(self, tx: Tx, principal: Principal, nano: int) -> str | None:
        """What is left where it is too little. Tried out by taking it, in a transaction that is undone."""
        balances = self._billing.balances
        accounts = await balances.accounts_for(tx, principal.organization_id, principal.project_id, principal.key_id)
        for account in accounts:
            got = await balances.acquire_lease(tx, account.id, "estimate", nano, nano, _HOUR)
            if isinstance(got, Refused):
                return f"{plain(Decimal(got.remaining_nano).scaleb(-9))} of {account.kind.value}"
        return None


class _Undone(Exception):
    """Rolls the transaction back."""


def _most(hour: Money, seconds: int | None, max_cost: str | None) -> Money | None:
    bounds = []
    if seconds is not None:
        bounds.append(hour.amount * seconds / _HOUR_SECONDS)
    if max_cost is not None:
        bounds.append(Decimal(max_cost))
    return Money(min(bounds), hour.currency) if bounds else None


def _pieces(workload: Workload, run: Run, prices: Timeline, now: datetime) -> list[UsageSum]:
    """What an attempt used, cut where prices changed. What is excluded comes off the end."""
    attempt = run.attempt
    if attempt.ready_at is None:
        return []
    end = attempt.ended_at or now
    edges = [
        attempt.ready_at,
        *(cut for cut in prices.cuts if attempt.ready_at < cut < end),
        max(end, attempt.ready_at),
    ]
    pieces: list[UsageSum] = []
    excluded = run.excluded
    for begin, until in reversed(list(pairwise(edges))):
        used = attempt.accelerators * ((until - attempt.ready_at) // _SECOND - (begin - attempt.ready_at) // _SECOND)
        taken = min(used, excluded)
        excluded -= taken
        if used > taken:
            segment = bisect_right(prices.cuts, begin)
            dims = {**dict.fromkeys(RATED_BY), **dims_of(workload, attempt)}
            pieces.append(UsageSum(_whole(begin, until), Meter.ACCELERATOR_SECONDS, used - taken, dims, segment))
    return pieces


def _whole(start: datetime, end: datetime) -> Window:
    """The full seconds that an interval touches."""
    first = start.replace(microsecond=0)
    return Window(first, max(first, end.replace(microsecond=0)) + _SECOND)


def _dims(job: NewJob) -> dict[str, str | None]:
    assert job.capacity_class is not None, "a class was chosen"
    return {
        **dict.fromkeys(RATED_BY),
        "sku": job.sku,
        "capacity_class": job.capacity_class.value,
        "charge_by": charge_by(job).value,
    }
