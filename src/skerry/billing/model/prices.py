"""Prices and charges. Costs are exact Decimals, never rounded here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, localcontext
from enum import StrEnum

from skerry.billing.model.reserved import CancellationTerms, Line, Rates
from skerry.kernel.ids import ContractId, OrganizationId
from skerry.kernel.money import unit_price_to_atto
from skerry.metering.model import BATCHED, RESERVATION, Meter, UsageSum


class ChargeBy(StrEnum):
    """Which family of a workload's meters carries money (DESIGN §5 Money); the names are those of the families."""

    TIME = "time"
    TOKENS = "tokens"
    RESERVATION = "reservation"


SELECTORS = ("model", "sku", "site", "capacity_class", "charge_by")
"""Dimensions that a price may depend on, the weightiest first: what is sold, where, out of what, and how."""
RATED_BY = (*SELECTORS, BATCHED, RESERVATION)
"""What usage has to be grouped by before it is rated: batches and reservations have prices of their own, and must not
mix with the rest."""


@dataclass(frozen=True, slots=True)
class Price:
    """`unit_price` for each `unit_quantity` base units of a meter, where the named dimensions match (None: any)."""

    meter: Meter
    unit_quantity: int
    unit_price: Decimal
    model: str | None = None
    sku: str | None = None
    site: str | None = None
    capacity_class: str | None = None
    charge_by: str | None = None
    line: Line | None = None
    """Of `node_seconds_reserved` alone; None: compute. What a node-second costs is the sum of its lines."""

    @property
    def priced_line(self) -> Line:
        return self.line or Line.COMPUTE

    @property
    def selectors(self) -> tuple[str | None, ...]:
        return (self.model, self.sku, self.site, self.capacity_class, self.charge_by)

    @property
    def atto(self) -> int:
        """Atto-units of one base unit. Raises ValueError where that is not a whole number."""
        return unit_price_to_atto(self.unit_price, self.unit_quantity)


@dataclass(frozen=True, slots=True)
class PriceBook:
    """A version of all prices; never changed. It is in force from `effective_from` until a later one is."""

    version: int
    currency: str
    effective_from: datetime
    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True)
class Contract:
    """A customer's own prices; where none matches, the book's apply."""

    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True)
class ContractTerms:
    """What one organization has agreed on, from `starts_at` until `ends_at` (None: no end)."""

    id: ContractId
    organization: OrganizationId
    name: str
    currency: str
    starts_at: datetime
    ends_at: datetime | None
    prices: tuple[Price, ...]
    cancellation: CancellationTerms
    credit_limit_nano: int | None
    """A month; None: the organization's own stays."""
    created_at: datetime

    def in_force(self, at: datetime) -> bool:
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is in force during a window: `books[0]` at its start, `books[n + 1]` from `cuts[n]` on.

    `contracts` is empty, or as long as `books`; `fixed` holds what reservations were sold at, by their ids. All its
    changes inside the window are cuts as well.
    """

    cuts: tuple[datetime, ...]
    books: tuple[PriceBook, ...]
    contracts: tuple[Contract | None, ...] = ()
    fixed: Mapping[str, Rates] = field(default_factory=dict)

    @property
    def currency(self) -> str:
        """All versions share it (`check_book`)."""
        return self.books[0].currency


@dataclass(frozen=True, slots=True)
class Charge:
    """A sum of usage with what it costs: at list price, under the contract, and as billed."""

    usage: UsageSum
    list_cost: Decimal
    contracted_cost: Decimal
    billed_cost: Decimal


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Prices of a model per million tokens; `cached` None: as `prompt`."""

    prompt: Decimal
    completion: Decimal
    cached: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PriceTarget:
    """What a gateway wants the token prices of: the dimensions that its usage will have."""

    model: str
    site: str = ""
    capacity_class: str = ""
    charge_by: str = ChargeBy.TOKENS.value

    def dims(self) -> Mapping[str, str]:
        return {
            "model": self.model,
            "site": self.site,
            "capacity_class": self.capacity_class,
            "charge_by": self.charge_by,
        }


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Atto-units a token (`egress`: a byte), for usage whose last instant is `since` or later."""

    since: datetime
    prompt: int
    cached: int
    completion: int
    egress: int


@dataclass(frozen=True, slots=True)
class TokenSchedule:
    """The price in force and all that are to come, oldest first."""

    currency: str
    prices: tuple[TokenPrice, ...]


def batch_atto(atto: int) -> int:
    """What one base unit costs in a batch: half, in whole atto-units.

    Gateways halve the prices of their schedules with it, and rating those of the book: so the cost on an answer and the
    charge made from it stay one number.
    """
    return atto // 2


def exact_sum(costs: Iterable[Decimal]) -> Decimal:
    """The sum to the last digit. Decimal's own context would round beyond 28."""
    with localcontext(prec=200):
        return sum(costs, Decimal(0))
