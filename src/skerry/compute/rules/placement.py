"""Which node a gang goes to. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from skerry.compute.model import WorkloadSpec

_SHOWN: Final = 3


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

    @property
    def free(self) -> tuple[int, ...]:
        if self.shared:
            return self.accelerators[self.used :]
        return tuple(index for index in self.accelerators if index not in self.taken)


@dataclass(frozen=True, slots=True)
class Place:
    """The node, and the accelerators on it by index (none where they are only counted)."""

    node: Candidate
    devices: tuple[int, ...]


def place(spec: WorkloadSpec, candidates: Sequence[Candidate]) -> Place | str:
    """The fullest node on which the gang fits, so that large gaps stay whole; or why there is none, in words."""
    possible = fitting(spec, candidates)
    if not possible:
        return _in_words({node.name: _refusal(spec, node) for node in candidates})
    node = min(possible, key=lambda node: (len(node.free), node.name))
    return Place(node, () if node.shared else node.free[: spec.accelerators])


def fitting(spec: WorkloadSpec, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Nodes on which the gang fits as far as it is known here."""
    return [node for node in candidates if not _refusal(spec, node)]


def _in_words(refusals: Mapping[str, str]) -> str:
    shown = [f"{name}: {why}" for name, why in list(refusals.items())[:_SHOWN]]
    rest = len(refusals) - len(shown)
    return "; ".join([*shown, f"{rest} more nodes"] if rest else shown) or "There are no nodes"


def _refusal(spec: WorkloadSpec, node: Candidate) -> str:
    if not node.ready:
        return node.why_not
    if spec.sku is not None and node.sku != spec.sku:
        return f"its SKU is {node.sku}, not {spec.sku}"
    if spec.memory_bytes is not None and spec.memory_bytes * spec.tasks > node.memory_bytes:
        return f"it has {node.memory_bytes} bytes of memory, {spec.memory_bytes * spec.tasks} are wanted"
    if spec.accelerators > len(node.accelerators):
        return f"it has {len(node.accelerators)} accelerators, {spec.accelerators} are wanted"
    if spec.accelerators > len(node.free):
        return f"{len(node.free)} of its {len(node.accelerators)} accelerators are free, {spec.accelerators} are wanted"
    return ""
