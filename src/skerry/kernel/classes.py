"""Where capacity comes from: the word that promises, work and prices share."""

from enum import StrEnum


class CapacityClass(StrEnum):
    """Where a workload's capacity comes from (DESIGN §2)."""

    RESERVED = "reserved"
    ON_DEMAND = "on_demand"
    SPOT = "spot"
