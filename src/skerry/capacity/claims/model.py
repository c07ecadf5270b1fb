"""A claim: the right of a holder to a node, or a part of one, for a time."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import ClaimId, LeafId, NodeId, ProjectId, ReservationId

Range = tuple[int, int]
"""Half-open."""


class HolderKind(StrEnum):
    """Who holds a claim."""

    RESERVATION = "reservation"
    """It owns the node, whether or not it uses it."""
    WORKLOAD = "workload"
    """It uses the node."""


OWNING: Final[Range] = (0, 1)
USING: Final[Range] = (1, 2)
BOTH: Final[Range] = (0, 2)


def level_of(holder: HolderKind, capacity_class: CapacityClass) -> Range:
    """On which levels of a node a claim stands alone.

    A reservation owns its node (level 0). Whoever uses it stands on level 1: a workload inside the reservation, or a
    spot workload while the owner has no use for it. On-demand work both owns and uses what it has.
    """
    if holder is HolderKind.RESERVATION:
        return OWNING
    return BOTH if capacity_class is CapacityClass.ON_DEMAND else USING


@dataclass(frozen=True, slots=True)
class Claim:
    """Times are UTC. `end` None: open-ended, until it is ended.

    `accelerators` are indexes, half-open: a whole node of eight is (0, 8). `reservation` is the holder itself, or the
    reservation inside which a workload runs; `leg` the leg of it that the claim fills. `pool`: it stands in the SKU's
    on-demand pool. `reclaim_at`: a notice, by then its holder is to be gone; `released_at`: the holder is gone.
    `delivered_at`: whoever runs the node said that it is there for its holder.
    """

    id: ClaimId
    project: ProjectId
    holder_kind: HolderKind
    holder: str
    capacity_class: CapacityClass
    leaf: LeafId
    sku: str
    node: NodeId
    accelerators: Range
    start: datetime
    end: datetime | None
    created_at: datetime
    reservation: ReservationId | None = None
    leg: str | None = None
    pool: bool = False
    void: bool = False
    delivered_at: datetime | None = None
    reclaim_at: datetime | None = None
    released_at: datetime | None = None

    @property
    def level(self) -> Range:
        return level_of(self.holder_kind, self.capacity_class)

    def live(self, now: datetime) -> bool:
        """It holds its node now or later."""
        return not self.void and (self.end is None or self.end > now)

    def covers(self, now: datetime) -> bool:
        """It holds its node at this moment."""
        return self.live(now) and self.start <= now
