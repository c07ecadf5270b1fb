"""What is counted: meters, the dimensions of a fact, the fact itself, and sums of facts. No prices here."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from skerry.kernel.ids import ProjectId, derived_uuid
from skerry.kernel.windows import Window


class Unit(StrEnum):
    """Base units; quantities are integers in them."""

    SECOND = "second"
    TOKEN = "token"  # noqa: S105
    BYTE_SECOND = "byte-second"
    BYTE = "byte"
    REQUEST = "request"
    MILLIWATT_HOUR = "milliwatt-hour"


class MeterFamily(StrEnum):
    """Groups of meters for the rule of DESIGN §5 Money: of the first three, exactly one carries a workload's money."""

    TIME = "time"
    TOKENS = "tokens"
    RESERVATION = "reservation"
    BESIDE = "beside"
    """Priced by rows of its own, whatever else carries money."""
    NEVER = "never"
    """Recorded and shown, never priced."""


class Meter(StrEnum):
    """What is counted. A new product brings a new meter here and a row in the price book."""

    ACCELERATOR_SECONDS = "accelerator_seconds"
    NODE_SECONDS_RESERVED = "node_seconds_reserved"
    TOKENS_PROMPT = "tokens_prompt"
    """Prompt tokens that were not cached."""
    TOKENS_CACHED = "tokens_cached"
    TOKENS_COMPLETION = "tokens_completion"
    TOKENS_TRAINED = "tokens_trained"
    STORAGE_BYTE_SECONDS = "storage_byte_seconds"
    EGRESS_BYTES = "egress_bytes"
    REQUESTS = "requests"
    ENERGY_MWH = "energy_mwh"

    @property
    def unit(self) -> Unit:
        return _DEFINITIONS[self][0]

    @property
    def family(self) -> MeterFamily:
        return _DEFINITIONS[self][1]


_DEFINITIONS: Mapping[Meter, tuple[Unit, MeterFamily]] = {
    Meter.ACCELERATOR_SECONDS: (Unit.SECOND, MeterFamily.TIME),
    Meter.NODE_SECONDS_RESERVED: (Unit.SECOND, MeterFamily.RESERVATION),
    Meter.TOKENS_PROMPT: (Unit.TOKEN, MeterFamily.TOKENS),
    Meter.TOKENS_CACHED: (Unit.TOKEN, MeterFamily.TOKENS),
    Meter.TOKENS_COMPLETION: (Unit.TOKEN, MeterFamily.TOKENS),
    Meter.TOKENS_TRAINED: (Unit.TOKEN, MeterFamily.TOKENS),
    Meter.STORAGE_BYTE_SECONDS: (Unit.BYTE_SECOND, MeterFamily.BESIDE),
    Meter.EGRESS_BYTES: (Unit.BYTE, MeterFamily.BESIDE),
    Meter.REQUESTS: (Unit.REQUEST, MeterFamily.NEVER),
    Meter.ENERGY_MWH: (Unit.MILLIWATT_HOUR, MeterFamily.NEVER),
}

DIMENSIONS = ("sku", "model", "site", "capacity_class", "charge_by", "key", "batch")
"""The names of a fact's dimensions, beside any number of `tag:NAME`."""

_TAG = re.compile(r"tag:[^\x00]{1,128}")


def is_dimension(name: str) -> bool:
    return name in DIMENSIONS or _TAG.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Dims(Mapping[str, str]):
    """The dimensions of a fact, as they were then: an immutable mapping, with an id that derives from its content."""

    pairs: tuple[tuple[str, str], ...]
    """Sorted by name, without empty values."""
    id: UUID = field(compare=False)

    @classmethod
    def of(cls, values: Mapping[str, str]) -> "Dims":
        """Empty values are left out: "no batch" has one form. Raises ValueError for a name that is no dimension."""
        unknown = [name for name in values if not is_dimension(name)]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a dimension; there are {', '.join(DIMENSIONS)} and tag:NAME")
        # PostgreSQL's text has no NUL; a tag that has one must not hold up all usage behind it.
        pairs = tuple(sorted((name, value.replace("\x00", "\ufffd")) for name, value in values.items() if value))
        return cls(pairs, derived_uuid("dims", _canonical(pairs)))

    @property
    def canonical(self) -> str:
        """JSON with sorted names and no spaces: the text that the id is made of."""
        return _canonical(self.pairs)

    def __getitem__(self, name: str) -> str:
        for own, value in self.pairs:
            if own == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __hash__(self) -> int:
        return hash(self.pairs)


def _canonical(pairs: Iterable[tuple[str, str]]) -> str:
    return json.dumps(dict(pairs), ensure_ascii=False, separators=(",", ":"))


class UsageFact(Struct, frozen=True, gc=False):
    """One thing that was used, once and for all. `id` and `t1` are fixed by the producer; `t0` ≤ `t1`, both aware.

    A correction is a fact of its own with a negative quantity and an id derived from what it corrects. A `Struct`
    because one is made for each meter of each answer: a frozen dataclass takes ten times as long.
    """

    id: UUID
    meter: Meter
    quantity: int
    project: ProjectId
    resource: str
    t0: datetime
    t1: datetime
    dims: Dims


class Reason(StrEnum):
    """Why a fact was refused. Refused facts are kept in `usage_rejected`."""

    T1_CHANGED = "t1_changed"
    """The id is known with another `t1`: the first one counts."""
    TOO_OLD = "too_old"
    """`t1` lies before the window for which ids are remembered, so that a repetition could not be told."""
    IN_FUTURE = "in_future"
    """`t1` lies too far ahead of our clock."""
    BAD_INTERVAL = "bad_interval"
    """`t0` lies after `t1`."""
    QUANTITY_OUT_OF_RANGE = "quantity_out_of_range"
    """The quantity does not fit 64 bits."""


@dataclass(frozen=True, slots=True)
class Rejection:
    id: UUID
    reason: Reason


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What became of a batch; each fact is in exactly one of the three."""

    inserted: int
    duplicates: int
    rejected: tuple[Rejection, ...] = ()
    not_inserted: frozenset[UUID] = frozenset()
    """Ids of which this batch stored nothing: all their facts were duplicates or rejected."""


@dataclass(frozen=True, slots=True)
class RollUpResult:
    """`hours` (project, hour) pairs were recomputed; `more` says that marks were left for another pass."""

    hours: int = 0
    more: bool = False


class Bucket(StrEnum):
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Sums of one project's usage over `window`, which is made of full hours; `bucket` None: the window as one."""

    window: Window
    group_by: tuple[str, ...] = ()
    """Any of `GROUPS` and `tag:NAME`, without repetition; the meter is always there beside them."""
    bucket: Bucket | None = None


GROUPS = ("project", "resource", *DIMENSIONS)
BATCHED = "batched"
"""A name to group by that only rating needs: "yes" for what belongs to any batch, None for all else."""
RESERVATION = "reservation"
"""Another: the reservation (the resource) of reserved node-seconds, None for all else."""


@dataclass(frozen=True, slots=True)
class UsageSum:
    """The quantity of one meter in one bucket, for one value each of the names grouped by."""

    window: Window
    """The bucket, cut to the window asked for."""
    meter: Meter
    quantity: int
    groups: Mapping[str, str | None]
    segment: int = 0
    """How many of the cuts asked for lie at or before all of this usage."""
