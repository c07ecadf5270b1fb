"""Reserved capacity in money: its lines, its rates over time, its price, what cancelling it costs.

Rates are whole atto-units a node-second and change on full hours only: an hour is charged at what was in force when it
began. So usage, which is summed by the hour, costs to the last digit what was agreed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from skerry.kernel.clock import rfc3339
from skerry.kernel.ids import ContractId, OrganizationId, ProjectId
from skerry.kernel.money import plain
from skerry.kernel.windows import Window


class Line(StrEnum):
    """What a reserved node's price is made of. Each line has price rows of its own, and their sum is charged."""

    COMPUTE = "compute"
    """The node itself; what a row without a line is for."""
    OPERATIONS = "operations"
    """Running and mending it."""
    NETWORKING = "networking"
    STORAGE = "storage"
    HOSTING = "hosting"
    """Space, power and cooling."""


class ChargeKind(StrEnum):
    """One-off charges. In costs they stand beside the meters, with quantity 1."""

    CANCELLATION_FEE = "cancellation_fee"
    """The part of a cancelled reservation that stays due, beside what was used of it."""


@dataclass(frozen=True, slots=True)
class PricedLeg:
    """`nodes` nodes of a SKU at a site (names) for one window."""

    sku: str
    site: str
    nodes: int
    window: Window


@dataclass(frozen=True, slots=True)
class Rate:
    """What a node-second of `sku` at `site` costs in the hours `[start, end)`: atto-units by line."""

    sku: str
    site: str
    start: datetime
    end: datetime
    atto: tuple[tuple[Line, int], ...]

    @property
    def total(self) -> int:
        return sum(atto for _, atto in self.atto)


@dataclass(frozen=True, slots=True)
class Rates:
    """Ordered by SKU, site and time; none overlap. What a reservation was sold at, fixed for its life."""

    rates: tuple[Rate, ...] = ()

    def to_json(self) -> list[dict[str, Any]]:
        """Integers as texts: JSON readers take large numbers for floats."""
        return [
            {
                "sku": rate.sku,
                "site": rate.site,
                "start": rfc3339(rate.start),
                "end": rfc3339(rate.end),
                "atto": {line.value: str(atto) for line, atto in rate.atto},
            }
            for rate in self.rates
        ]

    @classmethod
    def from_json(cls, values: list[dict[str, Any]]) -> "Rates":
        return cls(
            tuple(
                Rate(
                    sku=value["sku"],
                    site=value["site"],
                    start=datetime.fromisoformat(value["start"]),
                    end=datetime.fromisoformat(value["end"]),
                    atto=_lines({Line(name): int(atto) for name, atto in value["atto"].items()}),
                )
                for value in values
            )
        )


@dataclass(frozen=True, slots=True)
class LinePrice:
    """A line of a price, exact. `node_hour` is for one node and hour; the mean where it differs over time or places,
    and then rounded to 10⁻¹⁸.
    """

    line: Line
    node_hour: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class ReservedPrice:
    """Exact, unrounded: `total` is the sum of the lines' amounts, and of all that its usage will be charged.

    `hourly` is what all nodes together cost in an hour, at the first moment at which they are most. `unpriced` names
    SKUs of which some hour has no row for compute in any book: they would be had for nothing.
    """

    total: Decimal
    hourly: Decimal
    currency: str
    lines: tuple[LinePrice, ...]
    rates: Rates
    books: tuple[int, ...] = ()
    """Versions of the price books it was made from."""
    contract: ContractId | None = None
    unpriced: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """To be kept with an offer, and given back at confirmation."""
        return {
            "total": plain(self.total),
            "hourly": plain(self.hourly),
            "currency": self.currency,
            "lines": [[own.line.value, plain(own.node_hour), plain(own.amount)] for own in self.lines],
            "rates": self.rates.to_json(),
            "books": list(self.books),
            "contract": self.contract,
            "unpriced": list(self.unpriced),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ReservedPrice":
        return cls(
            total=Decimal(value["total"]),
            hourly=Decimal(value["hourly"]),
            currency=value["currency"],
            lines=tuple(LinePrice(Line(line), Decimal(hour), Decimal(sum)) for line, hour, sum in value["lines"]),
            rates=Rates.from_json(value["rates"]),
            books=tuple(value["books"]),
            contract=ContractId(value["contract"]) if value["contract"] else None,
            unpriced=tuple(value["unpriced"]),
        )


@dataclass(frozen=True, slots=True)
class CancellationStep:
    """Who cancels at least `days_before` days before the start (and not yet free) owes `share` of what is unused."""

    days_before: int
    share: Decimal


@dataclass(frozen=True, slots=True)
class CancellationTerms:
    """Free until `free_days_before` days before the start. Steps have falling days, the last of them 0.

    The last step's share also is what is owed once it has begun.
    """

    free_days_before: int
    steps: tuple[CancellationStep, ...]

    def to_json(self) -> dict[str, Any]:
        steps = [{"days_before": step.days_before, "share": plain(step.share)} for step in self.steps]
        return {"free_days_before": self.free_days_before, "steps": steps}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "CancellationTerms":
        steps = (CancellationStep(step["days_before"], Decimal(step["share"])) for step in value["steps"])
        return cls(value["free_days_before"], tuple(steps))


DEFAULT_CANCELLATION: Final = CancellationTerms(
    14, (CancellationStep(7, Decimal("0.25")), CancellationStep(0, Decimal("0.5")))
)
"""Without a contract: free until two weeks before, then a quarter, in the last week and thereafter half of the rest."""


@dataclass(frozen=True, slots=True)
class Fee:
    """What cancelling costs at a moment: `share` of what is not yet used. Free before `free_until`."""

    amount: Decimal
    free_until: datetime
    share: Decimal


@dataclass(frozen=True, slots=True)
class ReservedTerms:
    """What was agreed on for a reservation, and what of it is sold (`legs`, used parts included)."""

    reservation: str
    organization: OrganizationId
    project: ProjectId
    currency: str
    rates: Rates
    legs: tuple[PricedLeg, ...]
    cancellation: CancellationTerms
    contract: ContractId | None
    opened_at: datetime
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OneOff:
    """A charge that no meter brings: booked once, never changed."""

    id: str
    organization: OrganizationId
    project: ProjectId
    resource: str
    kind: ChargeKind
    amount: Decimal
    currency: str
    at: datetime
    reason: str
    dims: Mapping[str, str]
    """What usage of the resource would be grouped by."""


def _lines(values: Mapping[Line, int]) -> tuple[tuple[Line, int], ...]:
    """In the order of `Line`, so that equal rates are equal."""
    return tuple((line, values[line]) for line in Line if line in values)
