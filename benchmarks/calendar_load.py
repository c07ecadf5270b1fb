"""The fleet and the demand that calendars are measured with: synthetic, seeded.

No public trace of advance bookings was found. 12,500 nodes in 4 sites of 4 halls, 391 leaves of 32 nodes (the last has
20). Requests for 1–512 nodes (mostly powers of two), 1 day to half a year, to start within 1.5 years, in one hall; half
of those for a leaf or more want whole leaves. All times are full hours, so that a grid of hours can answer too.
"""

import random
from collections.abc import Iterator

from skerry.capacity.calendar.calendar import Calendar
from skerry.capacity.calendar.model import Booking, Demand, LeafKey
from skerry.capacity.model import Scope

SKU = "h100-sxm.8x"
NODES, LEAF, SITES, HALLS = 12_500, 32, 4, 4
HOUR, DAY = 3_600, 86_400
NOW = 1_800_000_000
STARTS_WITHIN = 548 * DAY
HORIZON = 1_096 * DAY


def fleet() -> Iterator[tuple[LeafKey, str, str, int]]:
    """Leaf, hall, site and nodes."""
    leaves = -(-NODES // LEAF)
    for n in range(leaves):
        hall = n * SITES * HALLS // leaves
        nodes = min(LEAF, NODES - n * LEAF)
        yield LeafKey(f"leaf-{n:03}", SKU), f"hall-{hall:02}", f"site-{hall // HALLS}", nodes


def empty() -> Calendar:
    calendar = Calendar()
    for key, hall, site, nodes in fleet():
        calendar.put_leaf(key, name=key.leaf, hall=hall, site=site, size=nodes, supply=[(NOW - DAY, nodes)])
    return calendar


def demand(rng: random.Random, *, scope: Scope = Scope.HALL) -> Demand:
    """What a customer asks for, to start as early as possible from some day within 1.5 years on."""
    nodes = 2 ** rng.randint(0, 9) if rng.random() < 0.7 else rng.randint(1, 512)
    hours = int(24 * (4_380 / 24) ** rng.random())
    earliest = NOW + HOUR * rng.randrange(STARTS_WITHIN // HOUR)
    whole = nodes >= LEAF and rng.random() < 0.5
    return Demand(SKU, nodes, hours * HOUR, earliest, NOW + HORIZON, scope, required=True, whole_leaves=whole)


def fill(calendar: Calendar, reservations: int, seed: int) -> int:
    """Book until so many reservations are there, each as early as it can be had; returns how many were asked for."""
    rng = random.Random(seed)
    asked = made = 0
    while made < reservations:
        asked += 1
        found = calendar.earliest(demand(rng), NOW)
        if found is None:
            continue
        made += 1
        for leg in found.placements:
            calendar.book(LeafKey(leg.leaf, SKU), Booking(f"res-{made}", leg.nodes, leg.start, leg.end))
    return asked
