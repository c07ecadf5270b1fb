"""Values of the calendar. Times are Unix seconds, windows half-open `[start, end)`, nodes are counts."""

from dataclasses import dataclass
from typing import Final

from skerry.capacity.model import Scope

WIDTHS: Final = (Scope.LEAF, Scope.HALL, Scope.SITE, Scope.ANY)
"""From the narrowest to the widest."""


@dataclass(frozen=True, slots=True, order=True)
class LeafKey:
    """One step function: the nodes of one SKU in one leaf. `leaf` is its id."""

    leaf: str
    sku: str


@dataclass(frozen=True, slots=True)
class Placement:
    """A leg: `nodes` of one leaf for one window."""

    leaf: str
    nodes: int
    start: int
    end: int

    @property
    def node_seconds(self) -> int:
        return self.nodes * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Booking:
    """What takes nodes of a leaf: a leg of a reservation, an on-demand claim, a maintenance window.

    `id` is unique within a leaf and SKU: a reservation with several legs there gives each its own. `expires_at`: a
    hold, whose nodes are free from that moment on. `pool`: it lives on the on-demand pool, which is not part of the
    supply that the calendar sells, so it is remembered and takes nothing.
    """

    id: str
    nodes: int
    start: int
    end: int
    expires_at: int | None = None
    pool: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """`nodes` for `seconds`, starting at `earliest` or later, over by `latest_end`.

    `required`: within one leaf, hall or site (`scope`), however late. Not required: the time counts, nearness decides
    among what is free at that time. `sites`: names; empty means any. `whole_leaves`: in the scope where they lie, whole
    leaves of its largest size and at most one part of a leaf for the rest.
    """

    sku: str
    nodes: int
    seconds: int
    earliest: int
    latest_end: int
    scope: Scope = Scope.ANY
    required: bool = False
    sites: frozenset[str] = frozenset()
    whole_leaves: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Where a demand fits from `start` on. `scope` is the narrowest that holds all placements."""

    start: int
    scope: Scope
    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why a demand does not fit, and what is nearest to it."""

    largest: int
    """Most nodes in one place of its scope that are free from `demand.earliest` for its duration; 0: none."""
    earliest: int | None
    """When its nodes are free in its scope, whatever its latest end; None: not within the horizon."""
    largest_ever: int
    """Most nodes that one place of its scope will ever have for sale: a larger demand is `scope_too_large`."""


@dataclass(frozen=True, slots=True)
class Free:
    """`nodes` are free at every moment of the window."""

    start: int
    end: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Shortage:
    """More is booked than there will be: `nodes` are missing at every moment of the window."""

    start: int
    end: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of a schedule: `nodes` that are kept from `start` to `end`."""

    nodes: int
    start: int
    end: int
