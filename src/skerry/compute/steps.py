"""What a look at the engine brought: the reconciler's findings, to be written by `Advance`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from skerry.compute.engines.base import GangState, NodeState


@dataclass(frozen=True, slots=True)
class Nodes:
    """Of a pending workload: what the engines that answered have, by engine."""

    by_engine: Mapping[str, Sequence[NodeState]]


@dataclass(frozen=True, slots=True)
class Dropped:
    """It is wanted no longer and nothing of it was started."""


@dataclass(frozen=True, slots=True)
class Away:
    """The engine does not answer: nothing may be concluded."""

    detail: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine will not take it: here and now, or (`for_good`) as it is."""

    message: str
    for_good: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What the engine says of the attempt; None: it does not know it. `log` is the end of the log of one that ended."""

    state: GangState | None
    submitted: bool = False
    """It was handed over just now."""
    cancelled: bool = False
    """The engine has been told to end it."""
    log: bytes = b""


Finding: TypeAlias = Nodes | Dropped | Away | Refused | Seen


@dataclass(frozen=True, slots=True)
class Next:
    """When to look again. `changed`: something moved, so look around at once. `forget`: an attempt that is closed."""

    seconds: float
    changed: bool = False
    forget: bool = False
