"""Prices of reserved capacity: what is in force by the hour, what legs cost at it, what cancelling them does.

Pure and synchronous: a `Pricer` is prepared once and prices thousands of offers a second. Inside, moments are Unix
seconds and money is atto-units, both integers.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

from skerry.billing.model import (
    BudgetWindow,
    CancellationTerms,
    ChargeBy,
    ContractTerms,
    Fee,
    Line,
    LinePrice,
    Period,
    PriceBook,
    PricedLeg,
    Rate,
    Rates,
    ReservedPrice,
)
from skerry.billing.rules.balances import period_of
from skerry.billing.rules.prices import Tariff, in_force
from skerry.kernel.clock import floor_hour
from skerry.kernel.ids import ContractId
from skerry.kernel.money import EXACT, decimal_from_atto
from skerry.kernel.windows import Window
from skerry.metering.model import Meter

HOUR = timedelta(hours=1)
_HOUR = 3600
_DAY = timedelta(days=1)
_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)
_RESERVED = "reserved"

Lines = tuple[tuple[Line, int], ...]
"""Atto-units by line."""


class Pricer:
    """Prices of one organization. Made by `Reserved.pricer`; good until books or contracts change."""

    def __init__(self, books: Sequence[PriceBook], contracts: Iterable[ContractTerms] = ()) -> None:
        """`books` must not be empty, and have their rows."""
        self.currency = books[0].currency
        self._books = [(floor_up(book.effective_from), book, Tariff(book.prices)) for book in in_force(books)]
        self._contracts = [(terms, Tariff(terms.prices)) for terms in contracts]
        moments = {since for since, _, _ in self._books}
        for terms, _ in self._contracts:
            moments |= {floor_up(moment) for moment in (terms.starts_at, terms.ends_at) if moment is not None}
        self._moments = sorted(moments)
        self._known: dict[tuple[str, str, int], tuple[Lines, bool]] = {}

    @property
    def moments(self) -> tuple[datetime, ...]:
        """The hours at which prices may change, in order."""
        return tuple(self._moments)

    def price(self, legs: Sequence[PricedLeg], keep: Rates | None = None) -> ReservedPrice:
        """What legs cost. Hours that `keep` covers (what was sold before) cost as they did, others as is in force then.

        Raises ValueError where there are no legs.
        """
        if not legs:
            raise ValueError("there is nothing to price")
        legs = together(legs)
        fresh, unpriced, books, contract = self._rates(legs)
        rates = joined(keep, fresh) if keep is not None else fresh
        sums = amounts(rates, legs)
        seconds = sum(leg.nodes * leg.window.seconds for leg in legs)
        return ReservedPrice(
            total=decimal_from_atto(sum(sums.values())),
            hourly=decimal_from_atto(_peak(rates, legs) * _HOUR),
            currency=self.currency,
            lines=tuple(
                LinePrice(line, _mean(atto * _HOUR, seconds), decimal_from_atto(atto)) for line, atto in sums.items()
            ),
            rates=rates,
            books=books,
            contract=contract,
            unpriced=unpriced,
        )

    def _rates(self, legs: Sequence[PricedLeg]) -> tuple[Rates, tuple[str, ...], tuple[int, ...], ContractId | None]:
        """What is in force in the hours of the legs; SKUs without a price; the books and the first contract."""
        spans: dict[tuple[str, str], tuple[datetime, datetime]] = {}
        for leg in legs:
            start, end = spans.get((leg.sku, leg.site), (leg.window.start, leg.window.end))
            spans[leg.sku, leg.site] = (min(start, leg.window.start), max(end, leg.window.end))
        rates: list[Rate] = []
        unpriced: set[str] = set()
        first, last = _FOR_EVER, datetime.min.replace(tzinfo=UTC)
        for (sku, site), (start, end) in sorted(spans.items()):
            begin, stop = floor_hour(start), floor_up(end)
            first, last = min(first, begin), max(last, stop)
            for since, until in self._segments(begin, stop):
                lines, priced = self._at(sku, site, since)
                if not priced:
                    unpriced.add(sku)
                rates.append(Rate(sku, site, since, until, lines))
        segments = [since for since, _ in self._segments(first, last)]
        books = sorted({self._book(since)[0].version for since in segments})
        contract = next((own.id for since in segments if (own := self._contract(since))), None)
        return Rates(_merged(rates)), tuple(sorted(unpriced)), tuple(books), contract

    def _segments(self, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        inner = [moment for moment in self._moments if start < moment < end]
        return list(zip([start, *inner], [*inner, end], strict=True))

    def _at(self, sku: str, site: str, hour: datetime) -> tuple[Lines, bool]:
        """Atto-units of one node-second by line in an hour, and whether compute has a row."""
        key = (sku, site, bisect_right(self._moments, hour))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._find(sku, site, hour)
        return found

    def _find(self, sku: str, site: str, hour: datetime) -> tuple[Lines, bool]:
        _, book = self._book(hour)
        own = next((tariff for terms, tariff in self._contracts if terms.in_force(hour)), None)
        dims = {"sku": sku, "site": site, "capacity_class": _RESERVED, "charge_by": ChargeBy.RESERVATION.value}
        lines: list[tuple[Line, int]] = []
        for line in Line:
            price = own.find(Meter.NODE_SECONDS_RESERVED, dims, line) if own else None
            price = price or book.find(Meter.NODE_SECONDS_RESERVED, dims, line)
            if price is not None:
                lines.append((line, price.atto))
        return tuple(lines), any(line is Line.COMPUTE for line, _ in lines)

    def _book(self, hour: datetime) -> tuple[PriceBook, Tariff]:
        """What is in force when the hour begins; the oldest book before there was any."""
        own = [(book, tariff) for since, book, tariff in self._books if since <= hour]
        return own[-1] if own else self._books[0][1:]

    def _contract(self, hour: datetime) -> ContractTerms | None:
        return next((terms for terms, _ in self._contracts if terms.in_force(hour)), None)


def together(legs: Iterable[PricedLeg]) -> list[PricedLeg]:
    """Legs of the same SKU, site and window as one: what matters here is how many nodes they are."""
    nodes: dict[tuple[str, str, Window], int] = {}
    for leg in legs:
        key = (leg.sku, leg.site, leg.window)
        nodes[key] = nodes.get(key, 0) + leg.nodes
    return [PricedLeg(sku, site, count, window) for (sku, site, window), count in nodes.items()]


def amounts(rates: Rates, legs: Iterable[PricedLeg]) -> dict[Line, int]:
    """Atto-units that legs cost, by line, in the order of lines."""
    found: dict[Line, int] = {}
    known = _by_place(rates)
    for leg in legs:
        for rate, window in _pieces(known, leg):
            seconds = leg.nodes * window.seconds
            for line, atto in rate.atto:
                found[line] = found.get(line, 0) + seconds * atto
    return {line: found[line] for line in Line if line in found}


def cost(rates: Rates, legs: Iterable[PricedLeg]) -> Decimal:
    """What legs cost, to the last digit."""
    return decimal_from_atto(sum(amounts(rates, legs).values()))


def by_period(rates: Rates, legs: Iterable[PricedLeg], kind: BudgetWindow) -> dict[Period, tuple[Decimal, datetime]]:
    """What legs cost in each period of a budget, and when the last of it ends."""
    atto: dict[Period, int] = {}
    ends: dict[Period, datetime] = {}
    known = _by_place(rates)
    for leg in legs:
        for rate, window in _pieces(known, leg):
            for period, part in _periods(window, kind):
                atto[period] = atto.get(period, 0) + leg.nodes * part.seconds * rate.total
                ends[period] = max(ends.get(period, part.end), part.end)
    ordered = sorted(atto, key=lambda period: period.start)
    return {period: (decimal_from_atto(atto[period]), ends[period]) for period in ordered}


def before(legs: Iterable[PricedLeg], now: datetime) -> tuple[PricedLeg, ...]:
    """The parts of legs that have passed, to the whole second."""
    return _cut(legs, None, _second(now))


def after(legs: Iterable[PricedLeg], now: datetime) -> tuple[PricedLeg, ...]:
    """The parts of legs that are to come."""
    return _cut(legs, _second(now), None)


def cancellation_fee(terms: CancellationTerms, legs: Sequence[PricedLeg], rates: Rates, now: datetime) -> Fee:
    """What is owed for legs that are given up at `now`: a share of what of them is to come, by how near they are.

    Raises ValueError where there are no legs.
    """
    if not legs:
        raise ValueError("there is nothing to cancel")
    start = min(leg.window.start for leg in legs)
    free_until = start - terms.free_days_before * _DAY
    share = _share(terms, start - now)
    with localcontext(prec=EXACT):
        return Fee(share * cost(rates, after(legs, now)), free_until, share)


def joined(old: Rates, new: Rates) -> Rates:
    """`old`, and of `new` what it does not cover: what was agreed on once stays."""
    known = _by_place(old)
    found = list(old.rates)
    for rate in new.rates:
        start = rate.start
        for other in known.get((rate.sku, rate.site), ()):
            if other.end <= start or other.start >= rate.end:
                continue
            if other.start > start:
                found.append(Rate(rate.sku, rate.site, start, other.start, rate.atto))
            start = other.end
        if start < rate.end:
            found.append(Rate(rate.sku, rate.site, start, rate.end, rate.atto))
    found.sort(key=lambda rate: (rate.sku, rate.site, rate.start))
    return Rates(_merged(found))


def rate_at(rates: Rates, sku: str | None, site: str | None, at: datetime) -> Rate | None:
    """The rate of the hour that a moment lies in; None where nothing was agreed on for it."""
    return next(
        (rate for rate in rates.rates if rate.sku == sku and rate.site == site and rate.start <= at < rate.end), None
    )


def changes(fixed: Iterable[Rates]) -> set[datetime]:
    """The moments, all on full hours, at which rates begin, change or end."""
    return {moment for rates in fixed for rate in rates.rates for moment in (rate.start, rate.end)}


def floor_up(moment: datetime) -> datetime:
    """The first full hour at or after a moment."""
    floor = floor_hour(moment)
    return floor if floor == moment else floor + HOUR


def _by_place(rates: Rates) -> Mapping[tuple[str, str], list[Rate]]:
    found: dict[tuple[str, str], list[Rate]] = {}
    for rate in rates.rates:
        found.setdefault((rate.sku, rate.site), []).append(rate)
    return found


def _pieces(known: Mapping[tuple[str, str], Collection[Rate]], leg: PricedLeg) -> Iterable[tuple[Rate, Window]]:
    """A leg cut where its rate changes. Raises ValueError where a part of it has none: that is a defect of ours."""
    covered = 0
    for rate in known.get((leg.sku, leg.site), ()):
        start, end = max(leg.window.start, rate.start), min(leg.window.end, rate.end)
        if start < end:
            window = leg.window if (start, end) == (leg.window.start, leg.window.end) else Window(start, end)
            covered += window.seconds
            yield rate, window
    if covered != leg.window.seconds:
        raise ValueError(f"no rate covers all of {leg}")


def _periods(window: Window, kind: BudgetWindow) -> Iterable[tuple[Period, Window]]:
    start = window.start
    while start < window.end:
        period = period_of(kind, start)
        end = min(period.end, window.end)
        yield period, Window(start, end)
        start = end


def _cut(legs: Iterable[PricedLeg], start: datetime | None, end: datetime | None) -> tuple[PricedLeg, ...]:
    found = []
    for leg in legs:
        begin = leg.window.start if start is None else max(leg.window.start, start)
        stop = leg.window.end if end is None else min(leg.window.end, end)
        if begin < stop:
            found.append(PricedLeg(leg.sku, leg.site, leg.nodes, Window(begin, stop)))
    return tuple(found)


def _second(now: datetime) -> datetime:
    """A second that has begun counts as passed."""
    floor = now.replace(microsecond=0)
    return floor if floor == now else floor + timedelta(seconds=1)


def _share(terms: CancellationTerms, notice: timedelta) -> Decimal:
    if notice >= terms.free_days_before * _DAY:
        return Decimal(0)
    for step in terms.steps:
        if notice >= step.days_before * _DAY:
            return step.share
    return terms.steps[-1].share


def _peak(rates: Rates, legs: Sequence[PricedLeg]) -> int:
    """Atto-units a second of all nodes, at the first moment at which they are most."""
    best: tuple[int, int] = (0, 0)
    known = _by_place(rates)
    for moment in sorted({leg.window.start for leg in legs}):
        live = [leg for leg in legs if leg.window.contains(moment)]
        nodes = sum(leg.nodes for leg in live)
        if nodes > best[0]:
            best = (nodes, sum(leg.nodes * _total_at(known[leg.sku, leg.site], moment) for leg in live))
    return best[1]


def _total_at(rates: Iterable[Rate], moment: datetime) -> int:
    return next(rate.total for rate in rates if rate.start <= moment < rate.end)


def _mean(atto: int, seconds: int) -> Decimal:
    """To 10⁻¹⁸, which is exact where all hours cost the same."""
    return decimal_from_atto((2 * atto + seconds) // (2 * seconds))


def _merged(rates: Sequence[Rate]) -> tuple[Rate, ...]:
    found: list[Rate] = []
    for rate in rates:
        last = found[-1] if found else None
        if last and (last.sku, last.site, last.end, last.atto) == (rate.sku, rate.site, rate.start, rate.atto):
            found[-1] = Rate(rate.sku, rate.site, last.start, rate.end, rate.atto)
        else:
            found.append(rate)
    return tuple(found)
