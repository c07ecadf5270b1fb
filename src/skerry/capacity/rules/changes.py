"""What legs become when a reservation is changed. Pure: counts and windows, no calendar and no money."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from skerry.capacity.model import Leg
from skerry.kernel.windows import Schedule, Span, Window


@dataclass(frozen=True, slots=True)
class Reshaped:
    """`legs` are all there are afterwards; `given_up` is what of the old ones is not in them. New legs have no id."""

    legs: tuple[Leg, ...]
    given_up: tuple[Leg, ...]


def cancelled(legs: Sequence[Leg], now: datetime) -> Reshaped:
    """What was used by now stays, the rest is given up. A leg that has begun keeps its id."""
    used, rest = [], []
    for leg in legs:
        before, after = cut(leg, now)
        used += [before] if before else []
        rest += [after] if after else []
    return Reshaped(tuple(used), tuple(rest))


def extended(legs: Sequence[Leg], end: datetime) -> tuple[Leg, ...]:
    """Those that last to the end last longer. `end` is later than all of them."""
    last = max(leg.window.end for leg in legs)
    return tuple(replace(leg, window=Window(leg.window.start, end)) if leg.window.end == last else leg for leg in legs)


def shrunk(legs: Sequence[Leg], nodes: int, since: datetime) -> Reshaped:
    """At most `nodes` nodes from `since` on. Large parts stay whole, small ones go: what is left is less scattered."""
    kept: list[Leg] = []
    over: list[Leg] = []
    given: list[Leg] = []
    later = []
    for leg in legs:
        before, after = cut(leg, since)
        over += [before] if before else []
        later += [after] if after else []
    for leg in sorted(later, key=lambda one: (-one.window.seconds, -one.nodes, one.leaf_name, one.id)):
        room = nodes - most_at_once(kept, leg.window)
        stays = min(leg.nodes, room)
        if stays > 0:
            kept.append(replace(leg, nodes=stays))
        if stays < leg.nodes:
            given.append(replace(leg, nodes=leg.nodes - max(0, stays), id=""))
    return Reshaped(_joined([*over, *kept], legs), tuple(given))


def split(legs: Sequence[Leg], parts: Sequence[int]) -> tuple[tuple[Leg, ...], list[tuple[Leg, ...]]] | None:
    """What stays, and for each part legs of so many nodes all the time; None: at some moment there are too few.

    Parts are taken of the smallest legs first, so that what stays is less scattered. Legs of parts have no id.
    """
    left = list(legs)
    found: list[tuple[Leg, ...]] = []
    for nodes in parts:
        taken: list[Leg] = []
        rest: list[Leg] = []
        for leg in sorted(left, key=lambda one: (one.nodes, one.leaf_name, one.id)):
            take = max(0, min(leg.nodes, nodes - most_at_once(taken, leg.window)))
            if take:
                taken.append(replace(leg, nodes=take, id=""))
            if take < leg.nodes:
                rest.append(replace(leg, nodes=leg.nodes - take))
        whole = schedule_of(legs)
        if any(span.count != nodes for span in _over(taken, whole)):
            return None
        found.append(tuple(taken))
        left = rest
    return tuple(sorted(left, key=_order)), found


def cut(leg: Leg, at: datetime) -> tuple[Leg | None, Leg | None]:
    """The parts before and after a moment. Where both are there the first keeps the id."""
    if at <= leg.window.start:
        return None, leg
    if at >= leg.window.end:
        return leg, None
    return (
        replace(leg, window=Window(leg.window.start, at)),
        replace(leg, window=Window(at, leg.window.end), id=""),
    )


def schedule_of(legs: Iterable[Leg]) -> Schedule:
    """Nodes over time, all leaves together."""
    return Schedule.of(Span(leg.window, leg.nodes) for leg in legs)


def most_at_once(legs: Iterable[Leg], window: Window) -> int:
    """The most nodes that legs have at any moment of a window."""
    inside = (Span(part, leg.nodes) for leg in legs if (part := leg.window.intersection(window)) is not None)
    return Schedule.of(inside).peak()


def _over(legs: Sequence[Leg], whole: Schedule) -> list[Span]:
    """How many nodes legs have in each stretch of a schedule, nothing included."""
    moments = {moment for leg in legs for moment in (leg.window.start, leg.window.end)}
    own = schedule_of(legs)
    found = []
    for span in whole.spans:
        edges = sorted({span.window.start, span.window.end, *(m for m in moments if span.window.contains(m))})
        found += [Span(Window(a, b), own.at(a)) for a, b in pairwise(edges)]
    return found


def _joined(legs: Sequence[Leg], before: Sequence[Leg]) -> tuple[Leg, ...]:
    """A leg that was cut and lost nothing is one leg again, so that nobody sees a change where there was none."""
    originals = {(leg.leaf, leg.window.end): leg for leg in before}
    found: list[Leg] = []
    rest = sorted(legs, key=_order)
    for leg in rest:
        original = originals.get((leg.leaf, leg.window.end))
        head = next(
            (
                own
                for own in found
                if original is not None
                and not leg.id
                and own.id == original.id
                and own.window.end == leg.window.start
                and own.nodes == leg.nodes == original.nodes
            ),
            None,
        )
        if head is not None and original is not None:
            found[found.index(head)] = original
        else:
            found.append(leg)
    return tuple(sorted(found, key=_order))


def _order(leg: Leg) -> tuple[datetime, str, str]:
    return (leg.window.start, leg.leaf_name, leg.id)
