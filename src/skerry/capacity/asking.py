"""What a customer asks for, as it came over the wire: read, not yet judged (`rules/asking.py`)."""

from dataclasses import dataclass, field
from datetime import datetime

from skerry.capacity.model import Scope
from skerry.kernel.classes import CapacityClass


@dataclass(frozen=True, slots=True)
class AskedWindow:
    """`nodes` for one window of a schedule."""

    start: datetime
    end: datetime
    nodes: int


@dataclass(frozen=True, slots=True)
class QuoteAsk:
    """Whole seconds, UTC. Either `schedule`, or `nodes` with one of `duration_seconds` and `end_at`."""

    sku: str
    nodes: int | None = None
    duration_seconds: int | None = None
    end_at: datetime | None = None
    start_at: datetime | None = None
    earliest_after: datetime | None = None
    schedule: tuple[AskedWindow, ...] | None = None
    sites: tuple[str, ...] = ()
    scope: Scope = Scope.ANY
    scope_required: bool = False
    capacity_class: CapacityClass = CapacityClass.RESERVED


@dataclass(frozen=True, slots=True)
class SplitPart:
    """`nodes` for another project of the organization (its name or id)."""

    project: str
    nodes: int


@dataclass(frozen=True, slots=True)
class ChangeAsk:
    """One kind of change, with the fields that this kind has."""

    kind: str
    end_at: datetime | None = None
    nodes: int | None = None
    since: datetime | None = None
    start_at: datetime | None = None
    site: str | None = None
    parts: tuple[SplitPart, ...] = field(default=())
