"""What a machine costs by the hour, what it has cost so far, and whether it could be paid."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final

from skerry.billing.model import Refused
from skerry.billing.service import Billing
from skerry.compute.instances.errors import CannotPay
from skerry.compute.instances.model import Instance, Plan
from skerry.compute.model import Attempt
from skerry.db.database import Database, Tx
from skerry.identity.model import Principal
from skerry.kernel.clock import Clock, floor_hour, hours
from skerry.kernel.ids import ProjectId
from skerry.kernel.money import Money, nano_from_decimal, plain
from skerry.kernel.windows import Window
from skerry.metering.model import Meter, UsageSum

_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)
_HOUR_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class _Run:
    """What one attempt used within one hour, between two changes of prices."""

    start: datetime
    end: datetime
    quantity: int
    attempt: Attempt


class Pricing:
    def __init__(self, db: Database, clock: Clock, billing: Billing) -> None:
        self.db = db
        self.clock = clock
        self.billing = billing

    async def hour(self, project: ProjectId, plan: Plan) -> Money:
        """At the prices of this moment and the project's contract."""
        start = floor_hour(self.clock.now())
        dims = {
            "sku": plan.sku,
            "site": plan.site,
            "capacity_class": plan.capacity_class.value,
            "charge_by": plan.charge_by,
        }
        quantity = plan.accelerators * plan.new.nodes * _HOUR_SECONDS
        used = UsageSum(Window(start, start + _HOUR), Meter.ACCELERATOR_SECONDS, quantity, dims)
        now = Window(self.clock.now().replace(microsecond=0), self.clock.now().replace(microsecond=0) + _SECOND)
        async with self.db.reading() as tx:
            prices = await self.billing.prices.timeline(tx, now, project)
        (charge,) = self.billing.prices.rate([used], prices)
        return Money(charge.contracted_cost, prices.currency)

    async def so_far(self, tx: Tx, instance: Instance, attempts: Sequence[Attempt]) -> Money:
        """Of all its runs, from ready to the end or to now. What is rated later is the truth: time that is not charged
        is taken off there."""
        now = self.clock.now()
        begun = [one.ready_at for one in attempts if one.ready_at is not None]
        start = floor_hour(min(begun, default=now))
        window = Window(start, floor_hour(now) + _HOUR)
        prices = await self.billing.prices.timeline(tx, window, instance.project)
        pieces = [
            UsageSum(
                Window(floor_hour(run.start), floor_hour(run.start) + _HOUR),
                Meter.ACCELERATOR_SECONDS,
                run.quantity,
                {
                    "sku": run.attempt.sku or instance.sku,
                    "site": run.attempt.site or instance.site,
                    "capacity_class": instance.capacity_class.value,
                    "charge_by": instance.charge_by,
                },
                segment=sum(cut <= run.start for cut in prices.cuts),
            )
            for attempt in attempts
            for run in _runs(attempt, now, prices.cuts)
        ]
        charges = self.billing.prices.rate(pieces, prices)
        return Money(sum((one.contracted_cost for one in charges), Decimal(0)), prices.currency)

    async def require_payable(self, principal: Principal, hour: Money) -> None:
        """Raises CannotPay where a budget or the credit has less left than the first hour costs."""
        nano = nano_from_decimal(hour.amount.quantize(Decimal("1e-9")))
        if not nano:
            return
        short: str | None = None
        try:
            async with self.db.transaction() as tx:
                short = await self._shortest(tx, principal, nano)
                raise _Undone
        except _Undone:
            pass
        if short is not None:
            raise CannotPay(
                f"the first hour would cost {plain(hour.amount)} {hour.currency}, and {short} is left",
                suggestion="Raise the budget, ask for less, or ask the operator for credit.",
            )

    async def _shortest(self, tx: Tx, principal: Principal, nano: int) -> str | None:
        """What is left where it is too little. Tried out by taking it, in a transaction that is undone."""
        balances = self.billing.balances
        accounts = await balances.accounts_for(tx, principal.organization_id, principal.project_id, principal.key_id)
        for account in accounts:
            got = await balances.acquire_lease(tx, account.id, "estimate", nano, nano, _HOUR)
            if isinstance(got, Refused):
                return f"{plain(Decimal(got.remaining_nano).scaleb(-9))} of {account.kind.value}"
        return None


class _Undone(Exception):
    """Rolls the transaction back."""


def _runs(attempt: Attempt, now: datetime, cuts: Sequence[datetime]) -> list[_Run]:
    """Whole seconds since `ready_at`, cut at full hours and where prices change."""
    ready = attempt.ready_at
    if ready is None:
        return []
    found = []
    for begin, end in hours(ready, attempt.ended_at or now):
        edges = [begin, *(cut for cut in cuts if begin < cut < end), end]
        for start, stop in pairwise(edges):
            seconds = (stop - ready) // _SECOND - (start - ready) // _SECOND
            if quantity := attempt.accelerators * seconds:
                found.append(_Run(start, stop, quantity, attempt))
    return found
