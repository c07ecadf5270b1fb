"""The face of billing: prices, contracts, reservations, balances, budgets."""

from decimal import Decimal

from skerry.billing.rules.reserved import Pricer
from skerry.billing.service.balances import CREDIT_LIMIT, Balances, Homes
from skerry.billing.service.budgets import Budgets, KeyBudgets
from skerry.billing.service.commitments import Commitments
from skerry.billing.service.contracts import Contracts
from skerry.billing.service.price_books import PriceBooks
from skerry.billing.service.reserved import Reserved
from skerry.billing.service.running import Running
from skerry.billing.service.settling import Settling
from skerry.db.database import Database
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog

__all__ = [
    "Balances",
    "Billing",
    "Budgets",
    "Contracts",
    "Homes",
    "KeyBudgets",
    "PriceBooks",
    "Pricer",
    "Reserved",
    "Running",
    "Settling",
]


class Billing:
    """`prices` says what usage costs, `balances` what may still be spent (gateways, shipper), `budgets` who set that.
    `contracts` are customers' own terms; `reserved` prices and sells reservations, `settling` books what they cost, and
    `running` what is paid by the second.

    Identity needs a `KeyBudgets` before there is a `Billing`, which in turn needs identity.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        identity: Identity,
        metering: Metering,
        *,
        homes: Homes | None = None,
        credit_limit: Decimal = CREDIT_LIMIT,
    ) -> None:
        self.db = db
        self.clock = clock
        self.prices = PriceBooks(db, clock, identity)
        self.balances = Balances(clock, events, self.prices, homes=homes, credit_limit=credit_limit)
        commitments = Commitments(clock, self.balances)
        self.contracts = Contracts(db, clock, identity, self.prices, self.balances)
        self.reserved = Reserved(db, clock, self.prices, self.balances, commitments)
        self.running = Running(clock, identity, self.prices, self.balances, commitments)
        self.settling = Settling(db, clock, metering, self.prices, self.contracts, commitments)
        self.budgets = Budgets(db, clock, events, identity, metering, self.prices, self.balances, self.reserved)

    async def bootstrap(self, currency: str) -> None:
        """The first price book, where there is none."""
        async with self.db.transaction() as tx:
            await self.prices.bootstrap(tx, currency)
