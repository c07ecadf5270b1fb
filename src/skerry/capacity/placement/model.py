"""Values of placement: machines with accelerators, tasks that want some of them, and where a task goes."""

from dataclasses import dataclass
from typing import Final

WHOLE: Final = 1000
"""Thousandths of an accelerator."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A node as placement sees it, empty. Tasks may ask for its `kind` (accelerator model or SKU)."""

    name: str
    kind: str
    accelerators: int
    cpu_milli: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Task:
    """What one task wants of one machine.

    `milli` is thousandths of each of its accelerators: below 1000 only where it wants one, which it then shares.
    `kinds` None: any machine will do.
    """

    accelerators: int
    milli: int = WHOLE
    cpu_milli: int = 0
    memory_mib: int = 0
    kinds: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.accelerators < 0 or self.cpu_milli < 0 or self.memory_mib < 0:
            raise ValueError("a task wants nothing negative")
        if self.accelerators and not 0 < self.milli <= WHOLE:
            raise ValueError("milli is 1…1000")
        if self.accelerators > 1 and self.milli != WHOLE:
            raise ValueError("only a single accelerator can be shared")

    @property
    def shared(self) -> bool:
        return self.accelerators == 1 and self.milli < WHOLE

    @property
    def accelerator_milli(self) -> int:
        """Of all its accelerators together."""
        return self.accelerators * self.milli if self.accelerators else 0


@dataclass(frozen=True, slots=True)
class Typical:
    """A kind of task that is expected again; weights are relative."""

    task: Task
    weight: float


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a task went: the machine's number, and its accelerators by index, in order."""

    machine: int
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts beside fragmentation, in thousandths of an accelerator.

    `tightness` draws a task to the machine that it fills best: for each whole 8 accelerators and 128 cores it leaves
    free, a machine loses this much. `stranding` counts accelerators that a task leaves without the processor time that
    typical tasks need beside them: those are lost long before a type of task stops to fit, which is what fragmentation
    measures.
    """

    tightness: float = 30.0
    stranding: float = 3.0
