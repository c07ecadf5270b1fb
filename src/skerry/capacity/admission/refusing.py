"""Why a request gets nothing now, and when it would. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from skerry.capacity.admission.counts import first, least, together
from skerry.capacity.admission.model import AdmissionRequest, NotNow, WhyNot, widths
from skerry.capacity.admission.rules import LeafState, Offered
from skerry.capacity.claims.model import Claim, HolderKind
from skerry.capacity.model import Scope
from skerry.capacity.moments import instant, seconds
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import rfc3339


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a request would run; `end` None: open-ended, which counts as far as the horizon."""

    now: datetime
    end: datetime | None
    horizon: datetime


def refuse(
    request: AdmissionRequest,
    leaves: Sequence[LeafState],
    offered: Sequence[Offered],
    span: Span,
    coming: datetime | None = None,
) -> NotNow:
    """`coming`: when the reservation's next nodes are promised."""
    if request.capacity_class is CapacityClass.RESERVED:
        return _inside(request, leaves, offered, span, coming)
    wanted = _wanted(request)
    if request.nodes > 1 and sum(len(one.free) >= request.accelerators for one in offered) >= request.nodes:
        words = f"{request.nodes} nodes have room, and not in one {request.scope}."
        return _of(WhyNot.SCATTERED, words, _estimate(request, leaves, span))
    if request.capacity_class is CapacityClass.SPOT:
        return _of(WhyNot.NO_NODE, f"{_no_node(request, 'idle ')} {wanted} accelerators.", None)
    start = _estimate(request, leaves, span)
    if sum(_idle(leaf, request, span) for leaf in leaves) >= request.nodes:
        return _of(WhyNot.NO_CAPACITY, "The nodes that are idle are promised to others, or kept as spares.", start)
    return _of(WhyNot.NO_NODE, f"{_no_node(request)} {wanted} accelerators free.", start)


def reclaiming(start: datetime) -> NotNow:
    return _of(WhyNot.RECLAIMING, "Spot work stands there and has been told to leave.", start)


def nowhere(request: AdmissionRequest, sites: Iterable[str]) -> NotNow:
    where = ", ".join(sorted(set(sites)))
    return _of(
        WhyNot.OUTSIDE_JURISDICTION, f"Nodes that fit are in {where}, where the project's data may not be.", None
    )


def nothing_fits(request: AdmissionRequest) -> NotNow:
    words = [f"of SKU {request.sku}"] if request.sku else []
    words += [f"at {request.site}"] if request.site else []
    return _of(WhyNot.NO_NODE, " ".join(["There is no node", *words, "that an engine has ready"]) + ".", None)


def _inside(
    request: AdmissionRequest,
    leaves: Sequence[LeafState],
    offered: Sequence[Offered],
    span: Span,
    coming: datetime | None,
) -> NotNow:
    owned = [
        one
        for leaf in leaves
        for one in leaf.claims
        if one.holder_kind is HolderKind.RESERVATION
        and (one.holder, one.project) == (request.reservation, request.project)
    ]
    if any(one.covers(span.now) for one in owned):
        users = [one for leaf in leaves for one in leaf.claims if one.reservation == request.reservation]
        ends = [one.end for one in users if one.holder_kind is HolderKind.WORKLOAD and one.end is not None]
        words = f"The nodes of reservation {request.reservation} have no room for {_wanted(request)} accelerators."
        return _of(WhyNot.RESERVATION_FULL, words, min(ends, default=None))
    starts = [one.start for one in owned if one.start > span.now] + ([coming] if coming is not None else [])
    words = f"Reservation {request.reservation} has no nodes now on which an engine is ready."
    return _of(WhyNot.RESERVATION_NOT_READY, words, min(starts, default=None))


def _estimate(request: AdmissionRequest, leaves: Sequence[LeafState], span: Span) -> datetime | None:
    """When counts allow it, or when enough of a node in use is known to be free; None: not before the horizon."""
    length = seconds(span.end or span.horizon) - seconds(span.now)
    found: list[datetime] = []
    counted = [leaf for leaf in leaves if not leaf.pooled or span.end is not None]
    for group in _groups(request, counted):
        free = together([leaf.free(seconds(span.now)) for leaf in group])
        at = first(free, request.nodes, length, seconds(span.horizon))
        found += [instant(at)] if at is not None else []
    if request.nodes == 1:
        found += [at for leaf in leaves for at in _gaps(request, leaf, span, length)]
    return min((at for at in found if at > span.now), default=None)


def _groups(request: AdmissionRequest, leaves: Sequence[LeafState]) -> list[list[LeafState]]:
    """Leaves whose nodes may be those of one gang."""
    width = widths(request.scope, required=request.scope_required)[-1] if request.nodes > 1 else Scope.LEAF
    groups: dict[tuple[str, str], list[LeafState]] = {}
    for leaf in leaves:
        own = leaf.supply
        where = {Scope.LEAF: own.leaf, Scope.HALL: f"{own.site}/{own.hall}", Scope.SITE: own.site, Scope.ANY: ""}
        groups.setdefault((where[width], own.sku), []).append(leaf)
    return list(groups.values())


def _gaps(request: AdmissionRequest, leaf: LeafState, span: Span, length: int) -> list[datetime]:
    """When the on-demand work of each node leaves enough of it, and no reservation needs the node for so long."""
    found: list[datetime] = []
    for candidate, claims in leaf.by_candidate():
        own = [one for one in claims if one.capacity_class is CapacityClass.ON_DEMAND]
        if not own or len(own) != len(claims):
            continue
        free = leaf.free(seconds(span.now), without=candidate.node.id)
        for end in sorted(one.end for one in own if one.end is not None):
            held = sum(_size(one) for one in own if one.end is None or one.end > end)
            start = seconds(end)
            wanted_by_nobody = own[0].pool or least(free, start, start + length) >= 1
            if wanted_by_nobody and len(candidate.devices) - held >= request.accelerators:
                found.append(end)
                break
    return found


def _idle(leaf: LeafState, request: AdmissionRequest, span: Span) -> int:
    """Nodes that have nothing on them at this moment, but spot work."""
    busy = {one.node for one in leaf.claims if one.covers(span.now) and one.capacity_class is not CapacityClass.SPOT}
    return sum(one.node.id not in busy and len(one.free) >= request.accelerators for one in leaf.candidates)


def _size(claim: Claim) -> int:
    return claim.accelerators[1] - claim.accelerators[0]


def _wanted(request: AdmissionRequest) -> str:
    return f"{request.nodes} × {request.accelerators}" if request.nodes > 1 else f"{request.accelerators}"


def _no_node(request: AdmissionRequest, kind: str = "") -> str:
    return f"No {kind}nodes together have" if request.nodes > 1 else f"No {kind}node has"


def _of(reason: WhyNot, words: str, start: datetime | None) -> NotNow:
    when = f" Estimated start: {rfc3339(start)}." if start is not None else ""
    return NotNow(reason, words + when, start)
