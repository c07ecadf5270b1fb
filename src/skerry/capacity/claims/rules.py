"""What claims mean for counts. Pure."""

from collections.abc import Iterable
from datetime import datetime

from skerry.capacity.claims.model import Claim
from skerry.kernel.ids import NodeId

Stretch = tuple[datetime, datetime | None]
"""`[start, end)`; an end of None is open."""


def spans_of_nodes(claims: Iterable[Claim]) -> dict[tuple[NodeId, bool], list[Stretch]]:
    """When each node is taken by any of these claims, per node and pool flag: sorted, apart, touching ones joined.

    For counting: a node with any part taken counts as one node, and once. An end of None is open.
    """
    spans: dict[tuple[NodeId, bool], list[Stretch]] = {}
    for claim in sorted(claims, key=lambda one: one.start):
        if claim.void:
            continue
        own = spans.setdefault((claim.node, claim.pool), [])
        last = own[-1] if own else None
        if last is None or (last[1] is not None and last[1] < claim.start):
            own.append((claim.start, claim.end))
        elif last[1] is not None and (claim.end is None or claim.end > last[1]):
            own[-1] = (last[0], claim.end)
    return spans
