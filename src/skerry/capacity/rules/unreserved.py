"""What on-demand and spot capacity costs: accelerator-seconds, in the shape of a reserved price. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Protocol

from skerry.billing.model import (
    RATED_BY,
    Charge,
    ChargeBy,
    Line,
    LinePrice,
    PricedLeg,
    Rates,
    ReservedPrice,
    Timeline,
)
from skerry.kernel.money import EXACT
from skerry.metering.model import Meter, UsageSum

_HOUR = 3600


class Rating(Protocol):
    """What is needed of billing (`PriceBooks`)."""

    def rate(self, pieces: Iterable[UsageSum], prices: Timeline) -> list[Charge]: ...


class TimePrices:
    """At the prices of this moment: nobody knows when on-demand work will run, so later books do not count."""

    def __init__(self, rating: Rating, timeline: Timeline, accelerators: int, capacity_class: str) -> None:
        self._rating, self._timeline = rating, timeline
        self._accelerators, self._class = accelerators, capacity_class

    @property
    def moments(self) -> tuple[datetime, ...]:
        return ()

    def price(self, legs: Sequence[PricedLeg]) -> ReservedPrice:
        with localcontext(prec=EXACT):
            total = sum((self._cost(leg, leg.nodes * leg.window.seconds) for leg in legs), Decimal(0))
            hourly = sum((self._cost(leg, leg.nodes * _HOUR) for leg in legs), Decimal(0))
        node_hour = round(hourly / sum(leg.nodes for leg in legs), 18)
        line = LinePrice(Line.COMPUTE, node_hour, total)
        return ReservedPrice(total, hourly, self._timeline.currency, (line,), Rates())

    def _cost(self, leg: PricedLeg, node_seconds: int) -> Decimal:
        dims: dict[str, str | None] = {
            **dict.fromkeys(RATED_BY),
            "sku": leg.sku,
            "site": leg.site,
            "capacity_class": self._class,
            "charge_by": ChargeBy.TIME.value,
        }
        used = UsageSum(leg.window, Meter.ACCELERATOR_SECONDS, node_seconds * self._accelerators, dims)
        return sum((charge.contracted_cost for charge in self._rating.rate([used], self._timeline)), Decimal(0))
