"""Machines and what is free on each, and the choice of one for a task."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from skerry.capacity.placement import kernels
from skerry.capacity.placement.model import WHOLE, Machine, Policy, Spot, Task, Typical

Array = npt.NDArray[Any]

_TYPES: Final = 8
"""How many types of task there is room for at first."""
_LOG: Final = 4096
"""How many changes of machines are remembered; a type of task not seen for longer is rated everywhere anew."""


class Board:
    """Places tasks by FGD with a best-fit and a stranding term (`Policy`). Equals go to the machine named first.

    Not for several threads at once. The scores of a type of task are kept for each machine until something changes
    there, so that a decision looks closely at about fifteen machines, however many there are.
    """

    def __init__(self, machines: Sequence[Machine], typical: Iterable[Typical], policy: Policy | None = None) -> None:
        policy = policy or Policy()
        self.machines = tuple(machines)
        self._kinds = {kind: n for n, kind in enumerate(sorted({machine.kind for machine in machines}))}
        typical = [one for one in typical if one.weight > 0]
        self._typical = _tables(typical, self._kinds)
        self._policy = np.array([policy.tightness, policy.stranding, _accelerators_per_cpu(typical)], np.float64)
        self._numbers: dict[tuple[int, int, int, frozenset[str] | None], int] = {}
        self._types = np.zeros((_TYPES, 4), np.int64)
        self._allowed = np.zeros((_TYPES, max(len(self._kinds), 1)), np.bool_)
        self._sizes = np.array([machine.accelerators for machine in machines], np.int64)
        width = max([1, *(machine.accelerators for machine in machines)])
        self._free: Array = np.where(np.arange(width)[None, :] < self._sizes[:, None], WHOLE, 0).astype(np.int64)
        self._cpu = np.array([machine.cpu_milli for machine in machines], np.int64)
        self._memory = np.array([machine.memory_mib for machine in machines], np.int64)
        self._kind = np.array([self._kinds[machine.kind] for machine in machines], np.int64)
        count = len(self.machines)
        self._versions = np.ones(count, np.int32)
        self._before, self._seen = np.zeros(count), np.zeros(count, np.int32)
        self._scores = np.zeros((_TYPES, count))
        self._stamps = np.zeros((_TYPES, count), np.int32)
        self._devices = np.zeros((_TYPES, count), np.int16)
        self._alike = _numbered((machine.kind, machine.accelerators, machine.cpu_milli) for machine in machines)
        self._winners = np.zeros((_TYPES, 2 << max(count - 1, 0).bit_length()), np.int32)
        self._visited = np.full(_TYPES, -1, np.int64)
        self._log, self._head = np.zeros(_LOG, np.int32), np.zeros(1, np.int64)
        self._example, self._todo = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._scratch = np.zeros((2, width), np.int64)
        self._nobody = np.zeros(count, np.bool_)

    def choose(self, task: Task, banned: Iterable[int] = ()) -> Spot | None:
        """Where the task would go, but for the machines that are banned. None: it fits nowhere. Takes nothing."""
        number, keep_out = self._number(task), self._nobody
        banned = list(banned)
        if banned:
            keep_out = self._nobody.copy()
            keep_out[banned] = True
        machine = int(
            kernels.choose(number, task.memory_mib, self._arrays(), keep_out, self._race(), self._typical, self._policy)
        )
        if machine < 0:
            return None
        if task.shared:
            return Spot(machine, (int(self._devices[number, machine]),))
        whole = np.flatnonzero(self._free[machine, : self._sizes[machine]] == WHOLE)
        return Spot(machine, neighbours([int(index) for index in whole], task.accelerators))

    def place(self, task: Task) -> Spot | None:
        """Choose and take."""
        spot = self.choose(task)
        if spot is not None:
            self.take(spot, task)
        return spot

    def place_gang(self, task: Task, machines: int) -> list[Spot] | None:
        """As many tasks of a kind on as many machines. All or none."""
        spots: list[Spot] = []
        while len(spots) < machines:
            spot = self.choose(task, banned=[one.machine for one in spots])
            if spot is None:
                for taken in spots:
                    self.give_back(taken, task)
                return None
            self.take(spot, task)
            spots.append(spot)
        return spots

    def place_all(self, tasks: Sequence[Task]) -> list[int | None]:
        """Place one task after another, each where `place` would; the machine of each. One call for a whole trace."""
        numbers = np.array([self._number(task) for task in tasks], np.int64)
        memory = np.array([task.memory_mib for task in tasks], np.int64)
        return [None if machine < 0 else int(machine) for machine in self.run(numbers, memory)]

    def run(self, numbers: Array, memory: Array) -> Array:
        """As `place_all`, with types as `number` gave them: the machine of each, -1 for none."""
        where = kernels.place_all(
            numbers, memory, self._arrays(), self._nobody, self._race(), self._typical, self._policy
        )
        return where  # type: ignore[no-any-return]

    def number(self, task: Task) -> int:
        """Of the type of this task, for `run`."""
        return self._number(task)

    def take(self, spot: Spot, task: Task) -> None:
        """Raises ValueError where it is not free."""
        self._change(spot, task, -1)

    def give_back(self, spot: Spot, task: Task) -> None:
        """Undo `take`."""
        self._change(spot, task, 1)

    def free(self, machine: int) -> tuple[int, ...]:
        """Thousandths that are free of each of its accelerators."""
        return tuple(int(free) for free in self._free[machine, : self._sizes[machine]])

    @property
    def free_milli(self) -> int:
        """Of all accelerators together."""
        return int(self._free.sum())

    def _change(self, spot: Spot, task: Task, sign: int) -> None:
        i, devices = spot.machine, list(spot.devices)
        free = self._free[i, devices] + sign * task.milli
        cpu, memory = self._cpu[i] + sign * task.cpu_milli, self._memory[i] + sign * task.memory_mib
        whole = self.machines[i]
        if bool(((free < 0) | (free > WHOLE)).any()) or not (
            0 <= cpu <= whole.cpu_milli and 0 <= memory <= whole.memory_mib
        ):
            raise ValueError(f"{whole.name} has no such room")
        self._free[i, devices] = free
        self._cpu[i], self._memory[i] = cpu, memory
        self._versions[i] += 1
        self._log[self._head[0] % len(self._log)] = i
        self._head[0] += 1

    def _number(self, task: Task) -> int:
        milli = task.milli if task.accelerators else 0
        key = (task.cpu_milli, task.accelerators, milli, task.kinds)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            if number >= len(self._types):
                self._grow()
            self._types[number] = (task.cpu_milli, 0, task.accelerators, milli)
            for kind, column in self._kinds.items():
                self._allowed[number, column] = task.kinds is None or kind in task.kinds
        return number

    def _grow(self) -> None:
        for name in ("_types", "_allowed", "_scores", "_stamps", "_devices", "_winners", "_visited"):
            old: Array = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.full_like(old, -1 if name == "_visited" else 0)]))

    def _arrays(self) -> tuple[Array, ...]:
        return (
            self._types,
            self._allowed,
            self._free,
            self._sizes,
            self._cpu,
            self._memory,
            self._kind,
            self._versions,
            self._before,
            self._seen,
            self._scores,
            self._stamps,
            self._devices,
            self._scratch,
        )

    def _race(self) -> tuple[Array, ...]:
        return (self._alike, self._winners, self._log, self._head, self._visited, self._example, self._todo)


def neighbours(free: Sequence[int], count: int) -> tuple[int, ...]:
    """`count` of these indexes (ascending), next to each other where that can be, in the smallest gap that holds them.

    Of a gap its lower end is taken, aligned to `count` if it can be, so that blocks of two and four stay whole.
    """
    if count <= 0:
        return ()
    gaps: list[list[int]] = []
    for index in free:
        if gaps and gaps[-1][-1] == index - 1:
            gaps[-1].append(index)
        else:
            gaps.append([index])
    large = sorted((gap for gap in gaps if len(gap) >= count), key=lambda gap: (len(gap), gap[0]))
    if large:
        gap = large[0]
        aligned = [at for at in range(len(gap) - count + 1) if gap[at] % count == 0]
        start = aligned[0] if aligned else 0
        return tuple(gap[start : start + count])
    smallest_first = [index for gap in sorted(gaps, key=len) for index in gap]
    return tuple(sorted(smallest_first[:count]))


def _numbered(values: Iterable[Any]) -> Array:
    """Equal numbers for equal values."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def _accelerators_per_cpu(typical: Sequence[Typical]) -> float:
    """Milli-accelerators that typical tasks use beside a thousandth of a core. 0 if none needs any: all weigh alike."""
    cpu = sum(one.weight * one.task.cpu_milli for one in typical if one.task.accelerators)
    used = sum(one.weight * one.task.accelerator_milli for one in typical)
    return used / cpu if cpu else 0.0


def _tables(typical: Sequence[Typical], kinds: dict[str, int]) -> tuple[Array, ...]:
    """What `kernels.fragmentation` looks up: (millis, milli and count of each group, cpu steps, usable shares)."""
    weight = sum(one.weight for one in typical) or 1.0
    groups = sorted({(one.task.milli, one.task.accelerators) for one in typical if one.task.accelerators})
    millis = sorted({milli for milli, _ in groups})
    cpus = np.array(sorted({0, *(one.task.cpu_milli for one in typical)}), np.int64)
    usable = np.zeros((max(len(kinds), 1), len(cpus), len(groups)))
    for one in typical:
        task = one.task
        if not task.accelerators:
            continue  # to it every idle accelerator is lost
        for kind, row in kinds.items():
            if task.kinds is None or kind in task.kinds:
                usable[row, cpus >= task.cpu_milli, groups.index((task.milli, task.accelerators))] += (
                    one.weight / weight
                )
    return (
        np.array(millis, np.int64),
        np.array([millis.index(milli) for milli, _ in groups], np.int64),
        np.array([count for _, count in groups], np.int64),
        cpus,
        usable,
    )
