"""Rating: which price applies, which meters carry money, what usage costs. Values in, values out."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from skerry.billing.model import (
    SELECTORS,
    Charge,
    Contract,
    ContractTerms,
    Line,
    Price,
    PriceBook,
    PriceTarget,
    Rates,
    Timeline,
    TokenPrice,
    batch_atto,
)
from skerry.kernel.windows import Window
from skerry.metering.model import BATCHED, RESERVATION, Meter, MeterFamily, UsageSum


def carries_money(meter: Meter, charge_by: str | None) -> bool:
    """Whether usage of a meter is charged at all.

    Of time, tokens and reservation exactly the family named by `charge_by` is; storage and egress always are, by their
    own rows; requests and energy never.
    """
    match meter.family:
        case MeterFamily.BESIDE:
            return True
        case MeterFamily.NEVER:
            return False
        case family:
            return family.value == charge_by


def lines_of(meter: Meter) -> tuple[Line, ...]:
    """The lines that a meter's price is the sum of."""
    return tuple(Line) if meter is Meter.NODE_SECONDS_RESERVED else (Line.COMPUTE,)


class Tariff:
    """Looks prices up in one list of rows, of which no two have the same meter, line and selectors.

    The most specific row that matches wins. Rows are compared selector by selector, in the order of `SELECTORS`: one
    that names the dimension beats one that does not, whatever follows. So a price for a model beats any for a SKU, site
    or class, and of two prices for the model the one for this site wins. The order is total: there are no ties.
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        self._prices = {(price.meter, price.priced_line, price.selectors): price for price in prices}
        self._shapes = sorted({_shape(selectors) for _, _, selectors in self._prices}, reverse=True)

    def find(self, meter: Meter, dims: Mapping[str, str | None], line: Line = Line.COMPUTE) -> Price | None:
        """The price of one line of a meter for usage with these dimensions; None where no row matches."""
        values = tuple(dims.get(name) or None for name in SELECTORS)
        have = _shape(values)
        for shape in self._shapes:
            if any(needed and not there for needed, there in zip(shape, have, strict=True)):
                continue
            named = tuple(value if needed else None for needed, value in zip(shape, values, strict=True))
            price = self._prices.get((meter, line, named))
            if price is not None:
                return price
        return None

    def atto(self, meter: Meter, dims: Mapping[str, str | None]) -> int:
        """Atto-units charged for one base unit; 0 where the meter carries no money here, or has no price."""
        if not carries_money(meter, dims.get("charge_by")):
            return 0
        found = [self.find(meter, dims, line) for line in lines_of(meter)]
        return sum(price.atto for price in found if price)


def timeline(books: Iterable[PriceBook], window: Window) -> Timeline:
    """The books in force during a window, and the moments at which one follows another.

    Of books for the same moment the latest version counts. The oldest book also covers the time before it.
    """
    ordered = in_force(books)
    start = max((n for n, book in enumerate(ordered) if book.effective_from <= window.start), default=0)
    later = [book for book in ordered[start + 1 :] if book.effective_from < window.end]
    return Timeline(tuple(book.effective_from for book in later), (ordered[start], *later))


def woven(books: Timeline, window: Window, contracts: Sequence[ContractTerms], fixed: Mapping[str, Rates]) -> Timeline:
    """A timeline with what one customer has agreed on, all changes of which become cuts as well."""
    moments = set(books.cuts)
    for terms in contracts:
        moments |= {moment for moment in (terms.starts_at, terms.ends_at) if moment is not None}
    for rates in fixed.values():
        moments |= {moment for rate in rates.rates for moment in (rate.start, rate.end)}
    cuts = sorted(moment for moment in moments if window.start < moment < window.end)
    starts = (window.start, *cuts)
    own = [next((Contract(terms.prices) for terms in contracts if terms.in_force(at)), None) for at in starts]
    return Timeline(
        cuts=tuple(cuts),
        books=tuple(books.books[bisect_right(books.cuts, at)] for at in starts),
        contracts=tuple(own),
        fixed=fixed,
    )


def in_force(books: Iterable[PriceBook]) -> list[PriceBook]:
    """The books that ever come into force, in the order in which they do."""
    latest = {book.effective_from: book for book in sorted(books, key=lambda book: book.version)}
    return [latest[moment] for moment in sorted(latest)]


def book_at(books: Sequence[PriceBook], moment: datetime) -> PriceBook:
    """The book in force at a moment; the oldest one before there was any. `books` must not be empty."""
    ordered = in_force(books)
    return [ordered[0], *(book for book in ordered if book.effective_from <= moment)][-1]


def rate(pieces: Iterable[UsageSum], prices: Timeline, contract: Contract | None = None) -> list[Charge]:
    """What each piece of usage costs. Pieces do not reach across a cut: `segment` says what was in force.

    Their groups must have all of `RATED_BY`: what belongs to a batch costs half, and what belongs to a reservation what
    it was sold at. `contract` holds for all of them, whatever the timeline says. Costs are exact.
    """
    tariffs = [Tariff(book.prices) for book in prices.books]
    contracts = prices.contracts or (None,) * len(tariffs)
    known = [Tariff(own.prices) if own else None for own in (contract or each for each in contracts)]
    return [_charge(piece, tariffs[piece.segment], known[piece.segment], _fixed(piece, prices)) for piece in pieces]


def exact_cost(quantity: int, atto: int) -> Decimal:
    """`quantity` × `atto` × 10⁻¹⁸, to the last digit."""
    return Decimal(f"{quantity * atto}E-18")


class TokenTariffs:
    """Token prices of many targets, in force now and to come."""

    def __init__(self, books: Sequence[PriceBook], now: datetime) -> None:
        current = book_at(books, now)
        later = [book for book in in_force(books) if book.effective_from > max(now, current.effective_from)]
        self._tariffs = [(book.effective_from, Tariff(book.prices)) for book in (current, *later)]

    def of(self, target: PriceTarget) -> tuple[TokenPrice, ...]:
        """The oldest first; a later book that changes nothing for the target is left out."""
        found: list[TokenPrice] = []
        for since, tariff in self._tariffs:
            price = _token_price(since, tariff, target.dims())
            if not found or replace(price, since=found[-1].since) != found[-1]:
                found.append(price)
        return tuple(found)


def _charge(piece: UsageSum, tariff: Tariff, own: Tariff | None, fixed: int | None) -> Charge:
    list_cost = _cost(piece, tariff.atto(piece.meter, piece.groups))
    contracted = list_cost
    if fixed is not None:
        contracted = exact_cost(piece.quantity, fixed)
    elif own is not None:
        contracted = _cost(piece, _atto(piece.meter, piece.groups, own, tariff))
    return Charge(piece, list_cost, contracted, contracted)


def _atto(meter: Meter, dims: Mapping[str, str | None], own: Tariff, book: Tariff) -> int:
    """Under a contract: line by line its own row, else the book's."""
    if not carries_money(meter, dims.get("charge_by")):
        return 0
    found = [own.find(meter, dims, line) or book.find(meter, dims, line) for line in lines_of(meter)]
    return sum(price.atto for price in found if price)


def _fixed(piece: UsageSum, prices: Timeline) -> int | None:
    """Atto-units of a node-second that was sold at a price of its own; None for all else."""
    rates = prices.fixed.get(piece.groups.get(RESERVATION) or "")
    if rates is None or not carries_money(piece.meter, piece.groups.get("charge_by")):
        return None
    sku, site = piece.groups.get("sku"), piece.groups.get("site")
    start = piece.window.start
    at = max(start, prices.cuts[piece.segment - 1]) if piece.segment else start
    found = (rate for rate in rates.rates if (rate.sku, rate.site) == (sku, site) and rate.start <= at < rate.end)
    return next((rate.total for rate in found), None)


def _cost(piece: UsageSum, atto: int) -> Decimal:
    return exact_cost(piece.quantity, batch_atto(atto) if piece.groups.get(BATCHED) else atto)


def _token_price(since: datetime, tariff: Tariff, dims: Mapping[str, str]) -> TokenPrice:
    return TokenPrice(
        since=since,
        prompt=tariff.atto(Meter.TOKENS_PROMPT, dims),
        cached=tariff.atto(Meter.TOKENS_CACHED, dims),
        completion=tariff.atto(Meter.TOKENS_COMPLETION, dims),
        egress=tariff.atto(Meter.EGRESS_BYTES, dims),
    )


def _shape(selectors: tuple[str | None, ...]) -> tuple[bool, ...]:
    """Which selectors are named. Shapes compare as specificity does: the first place decides."""
    return tuple(value is not None for value in selectors)
