"""Which nodes a gang goes to. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from skerry.capacity.admission.model import widths
from skerry.capacity.model import Scope
from skerry.compute.model import WorkloadSpec

_SHOWN: Final = 3
_NUMBERS: Final = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as its engine and the fleet know it. `used` counts accelerators of open attempts, `taken` names them."""

    name: str
    engine: str
    site: str
    sku: str
    ready: bool
    memory_bytes: int
    accelerators: tuple[int, ...]
    shared: bool
    """Accelerators are cores: counted, not handed out one by one."""
    used: int = 0
    taken: frozenset[int] = frozenset()
    why_not: str = ""
    """Where not `ready`."""
    leaf: str = ""
    hall: str = ""

    @property
    def free(self) -> tuple[int, ...]:
        if self.shared:
            return self.accelerators[self.used :]
        return tuple(index for index in self.accelerators if index not in self.taken)


@dataclass(frozen=True, slots=True)
class Spot:
    """A node, and the accelerators on it by index (none where they are only counted)."""

    node: Candidate
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A spot on each node of the gang, in the order of ranks. All of one engine."""

    spots: tuple[Spot, ...]

    @classmethod
    def of(cls, spots: Iterable[Spot]) -> "Place":
        """Neighbours in the fleet are neighbours in rank."""
        return cls(tuple(sorted(spots, key=lambda one: (one.node.site, one.node.leaf, natural(one.node.name)))))

    @property
    def engine(self) -> str:
        return self.spots[0].node.engine

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.node.name for one in self.spots)

    @property
    def devices(self) -> tuple[int, ...]:
        """Of all nodes, one node after another; each has as many."""
        return tuple(device for one in self.spots for device in one.devices)


def place(spec: WorkloadSpec, candidates: Sequence[Candidate]) -> Place | str:
    """The fullest nodes on which the gang fits, so that large gaps stay whole, and as near to each other as they are
    free; or why there are none, in words."""
    possible = fitting(spec, candidates)
    if len(possible) < spec.nodes:
        refusals = {node.name: _refusal(spec, node) for node in candidates if node not in possible}
        some = f"{len(possible)} of {spec.nodes} nodes are there; " if possible else ""
        return some + _in_words(refusals)
    scope = Scope(spec.scope)
    for width in widths(scope, required=spec.scope_required):
        for group in _groups(possible, _KEYS[width]):
            if len(group) >= spec.nodes:
                fullest = sorted(group, key=lambda node: (len(node.free), natural(node.name)))[: spec.nodes]
                return Place.of(Spot(node, () if node.shared else node.free[: spec.each]) for node in fullest)
    return f"{len(possible)} nodes are free, and no {scope} has {spec.nodes} of them"


def fitting(spec: WorkloadSpec, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Nodes on which a node's part of the gang fits as far as it is known here."""
    return [node for node in candidates if not _refusal(spec, node)]


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """An order in which n2 comes before n10."""
    parts = _NUMBERS.split(name)
    return tuple(zip(parts[::2], [*(int(digits) for digits in parts[1::2]), -1], strict=True))


_KEYS: Final[Mapping[Scope, Callable[[Candidate], tuple[str, ...]]]] = {
    Scope.LEAF: lambda node: (node.engine, node.site, node.leaf),
    Scope.HALL: lambda node: (node.engine, node.site, node.hall),
    Scope.SITE: lambda node: (node.engine, node.site),
    Scope.ANY: lambda node: (node.engine,),
}


def _groups(nodes: Iterable[Candidate], key: Callable[[Candidate], tuple[str, ...]]) -> list[list[Candidate]]:
    """The smallest first, so that large gaps stay whole."""
    return sorted((list(group) for _, group in groupby(sorted(nodes, key=key), key=key)), key=len)


def _in_words(refusals: Mapping[str, str]) -> str:
    shown = [f"{name}: {why}" for name, why in list(refusals.items())[:_SHOWN]]
    rest = len(refusals) - len(shown)
    return "; ".join([*shown, f"{rest} more nodes"] if rest else shown) or "There are no nodes"


def _refusal(spec: WorkloadSpec, node: Candidate) -> str:
    if not node.ready:
        return node.why_not
    if spec.sku is not None and node.sku != spec.sku:
        return f"its SKU is {node.sku}, not {spec.sku}"
    if spec.site is not None and node.site != spec.site:
        return f"its site is {node.site}, not {spec.site}"
    memory = None if spec.memory_bytes is None else spec.memory_bytes * (spec.tasks // spec.nodes)
    if memory is not None and memory > node.memory_bytes:
        return f"it has {node.memory_bytes} bytes of memory, {memory} are wanted"
    if spec.each > len(node.accelerators):
        return f"it has {len(node.accelerators)} accelerators, {spec.each} are wanted"
    if spec.each > len(node.free):
        return f"{len(node.free)} of its {len(node.accelerators)} accelerators are free, {spec.each} are wanted"
    return ""
