"""What an endpoint costs by the hour, and whether that could be paid."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from skerry.billing.model import Refused
from skerry.billing.service import Billing
from skerry.db.database import Database, Tx
from skerry.fleet.model import NodeStatus
from skerry.fleet.service import Fleet
from skerry.identity.model import Principal
from skerry.inference.errors import BadEndpoint, CannotPay
from skerry.inference.model import EndpointKind, NewEndpoint
from skerry.kernel.clock import Clock, floor_hour
from skerry.kernel.errors import FieldError
from skerry.kernel.money import Money, nano_from_decimal, plain
from skerry.kernel.paging import MAX_LIMIT, PageRequest
from skerry.kernel.windows import Window
from skerry.metering.model import Meter, UsageSum

_HOUR: Final = timedelta(hours=1)
_HOUR_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Estimate:
    """By the hour, of one replica and of the fewest and the most. Nothing where it is paid by the token."""

    charge_by: str
    sku: str | None
    accelerators: int
    least: int
    most: int
    replica_hour: Money

    def hours(self, replicas: int) -> Money:
        return Money(self.replica_hour.amount * replicas, self.replica_hour.currency)


class Estimates:
    def __init__(self, db: Database, clock: Clock, billing: Billing, fleet: Fleet) -> None:
        self.db = db
        self.clock = clock
        self.billing = billing
        self.fleet = fleet

    async def choose_sku(self, new: NewEndpoint) -> str | None:
        """The one asked for, or the only one there is. Raises BadEndpoint where it is not clear, or not there."""
        nodes = (await self.fleet.nodes(PageRequest(MAX_LIMIT), status=NodeStatus.READY)).data
        if new.sku is not None:
            sizes = [len(node.accelerators) for node in nodes if node.sku == new.sku]
            if not sizes:
                raise _bad("sku", "unknown_sku", f"no node that is ready has the SKU {new.sku[:100]!r}")
        else:
            kinds = sorted({node.sku for node in nodes})
            if len(kinds) > 1 and new.kind is EndpointKind.DEDICATED:
                raise _bad("sku", "missing", f"there are several SKUs, so name one: {', '.join(kinds[:10])}")
            sizes = [len(node.accelerators) for node in nodes]
        if sizes and (new.accelerators or 0) > max(sizes):
            words = f"no node has {new.accelerators} accelerators; the largest has {max(sizes)}"
            raise _bad("accelerators", "too_many_accelerators", words)
        if new.sku is not None or new.kind is EndpointKind.SHARED or not nodes:
            return new.sku
        return nodes[0].sku

    async def of(self, new: NewEndpoint, model: str, sku: str | None, charge_by: str) -> Estimate:
        """At the prices of this moment. `new` is complete."""
        assert new.min_replicas is not None
        assert new.max_replicas is not None
        accelerators = new.accelerators or 0
        start = floor_hour(self.clock.now())
        hour = Window(start, start + _HOUR)
        dims = {"model": model, "sku": sku, "site": None, "capacity_class": new.capacity_class, "charge_by": charge_by}
        used = UsageSum(hour, Meter.ACCELERATOR_SECONDS, accelerators * _HOUR_SECONDS, dims)
        async with self.db.reading() as tx:
            prices = await self.billing.prices.timeline(tx, Window(start, start + timedelta(seconds=1)))
        (charge,) = self.billing.prices.rate([used], prices)
        cost = Money(charge.contracted_cost, prices.currency)
        return Estimate(charge_by, sku, accelerators, new.min_replicas, new.max_replicas, cost)

    async def require_payable(self, principal: Principal, estimate: Estimate) -> None:
        """Raises CannotPay where a budget or the credit has less left than the first hour of one replica costs."""
        nano = nano_from_decimal(estimate.hours(max(1, estimate.least)).amount.quantize(Decimal("1e-9")))
        if not nano:
            return
        try:
            async with self.db.transaction() as tx:
                short = await self._shortest(tx, principal, nano)
                raise _Undone
        except _Undone:
            pass
        if short is not None:
            cost = estimate.hours(max(1, estimate.least))
            raise CannotPay(
                f"the first hour would cost {plain(cost.amount)} {cost.currency}, and {short} is left",
                suggestion="Raise the budget, ask for fewer replicas or accelerators, or ask the operator for credit.",
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


def _bad(field: str, code: str, words: str) -> BadEndpoint:
    return BadEndpoint(words, code=code, errors=[FieldError(field, code, words)])
