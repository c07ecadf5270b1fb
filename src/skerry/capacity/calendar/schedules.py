"""Schedules with several windows (ramps): cut into layers, each placed once, all or nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from skerry.capacity.calendar.model import WIDTHS, Booking, Demand, Found, Layer, LeafKey, Placement
from skerry.capacity.model import Scope

if TYPE_CHECKING:  # it brings the compiler with it
    from skerry.capacity.calendar.calendar import Calendar

TENTATIVE = "a layer before:"
"""Begins the ids of bookings that stand for the layers placed so far."""


def layers(schedule: Iterable[tuple[int, int, int]]) -> list[Layer]:
    """Cut (nodes, start, end) windows, which add up where they overlap, into layers that lie one within another.

    What came last goes first (LIFO), so the nodes of the beginning stay for as long as there are that many. Outer
    layers come before those that lie within them. ValueError: an empty window, or no nodes.
    """
    changes: dict[int, int] = {}
    for nodes, start, end in schedule:
        if nodes < 1 or end <= start:
            raise ValueError("a window of a schedule has at least one node for at least one second")
        changes[start] = changes.get(start, 0) + nodes
        changes[end] = changes.get(end, 0) - nodes
    found: list[Layer] = []
    open_: list[tuple[int, int]] = []
    for moment in sorted(changes):
        change = changes[moment]
        if change > 0:
            open_.append((change, moment))
        while change < 0:
            nodes, start = open_.pop()
            found.append(Layer(min(nodes, -change), start, moment))
            if nodes > -change:
                open_.append((nodes + change, start))
            change += nodes
    return sorted(found, key=lambda layer: (layer.start, -layer.end))


def place_schedule(calendar: "Calendar", parts: Sequence[Layer], demand: Demand, now: int) -> Found | None:
    """All layers at their own times, or None. Of `demand` the SKU, scope, `required`, sites and `whole_leaves` count.

    All layers lie in one place of the found scope, the narrowest that there is, and inner layers use the leaves of
    outer ones first. The calendar is left as it was. Taking outer layers first loses nothing: over an inner layer's
    window the outer one is constant, so what a place has left for the inner is the same, whichever of its leaves the
    outer uses (but for whole leaves). ValueError: no layers.
    """
    if not parts:
        raise ValueError("a schedule has at least one layer")
    start = min(part.start for part in parts)
    for scope in _scopes(demand):
        wanted = replace(demand, scope=scope, required=True)
        for place in _promising(calendar, parts, wanted, now):
            legs = _place_within(calendar, parts, wanted, place, now)
            if legs is not None:
                return Found(start, scope, _joined(legs))
    return None


def _scopes(demand: Demand) -> Sequence[Scope]:
    return WIDTHS[: WIDTHS.index(demand.scope) + 1] if demand.required else WIDTHS


def _promising(calendar: "Calendar", parts: Sequence[Layer], demand: Demand, now: int) -> list[tuple[str, ...]]:
    """Places that have room for the outermost layers, those where these need fewest legs first."""
    widest = max(parts, key=lambda part: (part.end - part.start, part.nodes))
    wanted = replace(demand, nodes=widest.nodes, seconds=widest.end - widest.start)
    ranked: list[tuple[int, tuple[str, ...]]] = []
    for place in calendar.places(demand.sku, demand.scope, demand.sites):
        found = calendar.at(wanted, widest.start, now, within=place)
        if found is not None:
            ranked.append((len(found.placements), place))
    return [place for _, place in sorted(ranked, key=lambda entry: entry[0])]


def _place_within(
    calendar: "Calendar", parts: Sequence[Layer], demand: Demand, place: tuple[str, ...], now: int
) -> list[Placement] | None:
    legs: list[Placement] = []
    with calendar.what_if():
        for part in parts:
            wanted = replace(demand, nodes=part.nodes, seconds=part.end - part.start)
            used = {leg.leaf for leg in legs}
            found = calendar.at(wanted, part.start, now, prefer=used, within=place)
            if found is None:
                return None
            for leg in found.placements:
                booking = Booking(f"{TENTATIVE}{len(legs)}", leg.nodes, leg.start, leg.end)
                calendar.book(LeafKey(leg.leaf, demand.sku), booking)
                legs.append(leg)
    return legs


def _joined(legs: Iterable[Placement]) -> tuple[Placement, ...]:
    """Legs of the same leaf and window as one."""
    sums: dict[tuple[int, int, str], int] = {}
    for leg in legs:
        sums[leg.start, leg.end, leg.leaf] = sums.get((leg.start, leg.end, leg.leaf), 0) + leg.nodes
    return tuple(Placement(leaf, nodes, start, end) for (start, end, leaf), nodes in sums.items())
