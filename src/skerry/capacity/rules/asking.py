"""Whether what was asked for can ever be, and what would work instead. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from skerry.capacity.asking import AskedWindow, QuoteAsk
from skerry.capacity.errors import (
    BadWindow,
    BeyondHorizon,
    InThePast,
    OutsideJurisdiction,
    UnknownSite,
    UnknownSku,
)
from skerry.capacity.model import QuoteRequest
from skerry.capacity.moments import ceil_second
from skerry.capacity.rules.places import sites_within
from skerry.kernel.clock import rfc3339
from skerry.kernel.errors import FieldError
from skerry.kernel.windows import Schedule, Span, Window

_LISTED = 20


@dataclass(frozen=True, slots=True)
class Market:
    """What there is to ask for. `skus` and `sites`: their names by name and by id; `countries` by site name."""

    skus: Mapping[str, str]
    sites: Mapping[str, str]
    countries: Mapping[str, str | None]
    now: datetime
    horizon: datetime


def checked(ask: QuoteAsk, market: Market, jurisdictions: Collection[str] = ()) -> QuoteRequest:
    """The request with names for ids and its window worked out.

    Raises UnknownSku, UnknownSite, OutsideJurisdiction, BadWindow, InThePast, BeyondHorizon, each naming its field.
    """
    sku = checked_sku(ask.sku, market, "sku")
    sites = allowed_sites(ask.sites, market, jurisdictions)
    earliest = max(ask.earliest_after or market.now, ceil_second(market.now))
    start = ask.start_at
    schedule: Schedule | None
    if ask.schedule is not None:
        schedule = _schedule(ask, market)
        nodes, start = schedule.peak(), schedule.spans[0].window.start
        seconds = Window(start, schedule.spans[-1].window.end).seconds
    else:
        schedule = None
        if ask.nodes is None:
            raise BadWindow("how many nodes?", errors=[FieldError("nodes", "missing", "give nodes, or a schedule")])
        nodes, seconds = ask.nodes, _seconds(ask)
        _check_reach(ask, seconds, earliest, market)
    return QuoteRequest(
        sku=sku,
        nodes=nodes,
        duration_seconds=seconds,
        start_at=start,
        earliest_after=earliest if start is None else start,
        schedule=schedule,
        sites=sites,
        scope=ask.scope,
        scope_required=ask.scope_required,
        capacity_class=ask.capacity_class,
    )


def allowed_site(site: str | None, market: Market, jurisdictions: Collection[str]) -> tuple[str, ...]:
    """As `allowed_sites`, where the field is `site` and names one or none."""
    return allowed_sites([site] if site else [], market, jurisdictions, lambda _: "site")


def allowed_sites(
    asked: Sequence[str],
    market: Market,
    jurisdictions: Collection[str],
    path: Callable[[int], str] = lambda number: f"sites.{number}",
) -> tuple[str, ...]:
    """The sites to look at, by name; empty: all there are. Raises UnknownSite, OutsideJurisdiction, at `path`."""
    named = []
    for number, ref in enumerate(asked):
        if (name := market.sites.get(ref)) is None:
            raise unknown_site(ref, path(number), market)
        named.append(name)
    allowed = sites_within(market.countries, jurisdictions)
    words = f"this project's data stays in {', '.join(sorted(jurisdictions))}"
    for number, name in enumerate(named):
        if name not in allowed:
            raise _outside(f"{words}, and {name} is not there", path(number), allowed)
    if not allowed and market.countries:
        raise _outside(f"{words}, and no site is there", "sites", allowed)
    if named:
        return tuple(dict.fromkeys(named))
    return () if len(allowed) == len(market.countries) else tuple(sorted(allowed))


def unknown_site(ref: str, path: str, market: Market) -> UnknownSite:
    known = sorted(market.countries)
    return UnknownSite(
        f"there is no site {ref[:100]!r}",
        suggestion=f"Sites are {', '.join(known[:_LISTED])}." if known else "There are no sites yet.",
        errors=[FieldError(path, "unknown_site", "no such site")],
        extra={"sites": known},
    )


def check_end(end: datetime, path: str, market: Market) -> None:
    """Raises BeyondHorizon for an end that the calendar does not reach."""
    if end > market.horizon:
        raise BeyondHorizon(
            f"it would end at {rfc3339(end)}, and the calendar ends at {rfc3339(market.horizon)}",
            suggestion=f"Ask for something that is over by {rfc3339(market.horizon)}.",
            errors=[FieldError(path, "beyond_horizon", f"not later than {rfc3339(market.horizon)}")],
            extra={"horizon": rfc3339(market.horizon)},
        )


def check_not_past(start: datetime, path: str, market: Market) -> None:
    if start < market.now.replace(microsecond=0):
        raise InThePast(
            f"{rfc3339(start)} has passed",
            suggestion="Leave the start out for the earliest there is.",
            errors=[FieldError(path, "in_the_past", f"not before {rfc3339(ceil_second(market.now))}")],
            extra={"now": rfc3339(market.now)},
        )


def checked_sku(ref: str, market: Market, path: str) -> str:
    """The name of a SKU given by name or id. Raises UnknownSku."""
    if (name := market.skus.get(ref)) is not None:
        return name
    known = sorted(set(market.skus.values()))
    near = get_close_matches(ref, known, n=3, cutoff=0.4)
    raise UnknownSku(
        f"there is no SKU {ref[:100]!r}",
        suggestion=f"Did you mean {' or '.join(near)}?" if near else f"SKUs are {', '.join(known[:_LISTED])}.",
        errors=[FieldError(path, "unknown_sku", "no such SKU")],
        extra={"skus": known},
    )


def _outside(detail: str, path: str, allowed: Collection[str]) -> OutsideJurisdiction:
    listed = sorted(allowed)
    return OutsideJurisdiction(
        detail,
        suggestion=f"Choose of {', '.join(listed[:_LISTED])}, or leave sites out." if listed else "Ask your operator.",
        errors=[FieldError(path, "outside_jurisdiction", "outside the project's jurisdictions")],
        extra={"sites": listed},
    )


def _seconds(ask: QuoteAsk) -> int:
    if (ask.duration_seconds is None) == (ask.end_at is None):
        message = "give one of duration_seconds and end_at"
        raise BadWindow(message, errors=[FieldError("duration_seconds", "bad_window", message)])
    if ask.duration_seconds is not None:
        return ask.duration_seconds
    if ask.start_at is None or ask.end_at is None:
        message = "end_at needs start_at; without a fixed start give duration_seconds"
        raise BadWindow(message, errors=[FieldError("end_at", "bad_window", message)])
    if ask.end_at <= ask.start_at:
        message = "it ends before it starts"
        raise BadWindow(message, errors=[FieldError("end_at", "bad_window", message)])
    return int((ask.end_at - ask.start_at).total_seconds())


def _check_reach(ask: QuoteAsk, seconds: int, earliest: datetime, market: Market) -> None:
    if ask.start_at is not None and ask.earliest_after is not None:
        message = "give one of start_at and earliest_after"
        raise BadWindow(message, errors=[FieldError("earliest_after", "bad_window", message)])
    if ask.start_at is not None:
        check_not_past(ask.start_at, "start_at", market)
    path = "end_at" if ask.end_at is not None else "duration_seconds"
    start = ask.start_at or earliest
    if start > market.horizon:
        path = "start_at" if ask.start_at is not None else "earliest_after"
    # Compared as numbers: a date that no calendar has would overflow.
    if seconds > (market.horizon - min(start, market.horizon)).total_seconds():
        check_end(_plus(start, seconds), path, market)


def _plus(start: datetime, seconds: int) -> datetime:
    """The end, or the last moment that there is a date for."""
    try:
        return start + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC, microsecond=0)


def _schedule(ask: QuoteAsk, market: Market) -> Schedule:
    assert ask.schedule is not None
    for name in ("nodes", "duration_seconds", "end_at", "start_at", "earliest_after"):
        if getattr(ask, name) is not None:
            message = f"a schedule says it all: leave {name} out"
            raise BadWindow(message, errors=[FieldError(name, "bad_window", message)])
    before: AskedWindow | None = None
    for number, one in enumerate(ask.schedule):
        path = f"schedule.{number}"
        if one.end <= one.start:
            message = "it ends before it starts"
            raise BadWindow(message, errors=[FieldError(f"{path}.end", "bad_window", message)])
        if before is not None and one.start < before.end:
            message = "windows are in order and do not overlap; nodes are all there are in a window"
            raise BadWindow(message, errors=[FieldError(f"{path}.start", "bad_window", message)])
        check_not_past(one.start, f"{path}.start", market)
        check_end(one.end, f"{path}.end", market)
        before = one
    return Schedule.of(Span(Window(one.start, one.end), one.nodes) for one in ask.schedule)
