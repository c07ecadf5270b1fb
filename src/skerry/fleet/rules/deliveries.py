"""What a delivery may say of itself, and the leaves that are made for one."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

from skerry.fleet.model import Milestone, MilestoneDates

MOST_NODES: Final = 1_000_000
MOST_LEAVES: Final = 10_000
NO_DATES: Final = MilestoneDates()


def wrong_confidence(confidence: Decimal) -> str | None:
    return None if 0 <= confidence <= 1 else "confidence is a share between 0 and 1"


def wrong_milestones(milestones: Mapping[Milestone, MilestoneDates], now: datetime) -> list[tuple[Milestone, str]]:
    """What cannot be: a milestone reached before the one that precedes it, or in time to come; plans out of order."""
    wrong: list[tuple[Milestone, str]] = []
    before: Milestone | None = None
    last_reached: datetime | None = None
    last_planned: datetime | None = None
    for name in Milestone:
        dates = milestones.get(name, NO_DATES)
        if dates.reached is not None:
            if dates.reached > now:
                wrong.append((name, f"{name} was reached in time to come: give it as planned"))
            if before is not None and last_reached is None:
                wrong.append((name, f"{name} comes after {before}, which was not reached yet"))
            elif last_reached is not None and dates.reached < last_reached:
                wrong.append((name, f"{name} was reached before {before}"))
        if dates.planned is not None:
            if last_planned is not None and dates.planned < last_planned:
                wrong.append((name, f"{name} is planned before a milestone that precedes it"))
            last_planned = dates.planned
        last_reached, before = dates.reached, name
    return wrong


def leaves_of_size(prefix: str, nodes: int, size: int, first: int = 1) -> dict[str, int]:
    """Nodes by name of new leaves `PREFIX-1`, `PREFIX-2` …, each full but the last. Raises ValueError for too many."""
    count = -(-nodes // size)
    if count > MOST_LEAVES:
        raise ValueError(f"that would be {count} leaves")
    width = len(str(first + count - 1))
    names = [f"{prefix}-{number:0{width}d}" for number in range(first, first + count)]
    return {name: min(size, nodes - at * size) for at, name in enumerate(names)}
