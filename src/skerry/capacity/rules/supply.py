"""What of a leaf's supply reservations may buy: all of it, less the on-demand pool. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import groupby

from skerry.fleet.model import LeafSupply, Step
from skerry.kernel.ids import LeafId


def pool_shares(supplies: Iterable[LeafSupply], pools: Mapping[str, int | None]) -> dict[tuple[LeafId, str], int]:
    """How many nodes of each (leaf, SKU) belong to the on-demand pool. `pools`: nodes a site by SKU; None: no pool.

    The pool is a fixed part of each site: taken from its last leaf by name backwards, of each at most what it can sell
    when all its nodes are there.
    """
    found: dict[tuple[LeafId, str], int] = {}
    ordered = sorted(supplies, key=lambda one: (one.sku, one.site, one.leaf_name), reverse=True)
    for (sku, _site), leaves in groupby(ordered, key=lambda one: (one.sku, one.site)):
        left = pools.get(sku) or 0
        for leaf in leaves:
            share = min(left, max(0, leaf.size - leaf.spares))
            if share:
                found[leaf.leaf, sku] = share
                left -= share
    return found


def for_reservations(supply: LeafSupply, pool: int) -> LeafSupply:
    """The same leaf, as reservations see it: without the nodes of the pool."""
    if not pool:
        return supply
    return replace(
        supply,
        size=max(0, supply.size - pool),
        sellable=tuple(Step(step.start, max(0, step.nodes - pool)) for step in supply.sellable),
    )


def sellable_size(supply: LeafSupply) -> int:
    """The most nodes that a leaf will ever have for sale."""
    return max((step.nodes for step in supply.sellable), default=0)


def known_until(supplies: Iterable[LeafSupply]) -> datetime | None:
    """When one of these has to be counted anew: planned nodes that are not there by their day count no longer.

    None: nothing is planned.
    """
    return min((one.sellable[1].start for one in supplies if len(one.sellable) > 1), default=None)
