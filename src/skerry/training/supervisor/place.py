"""Where a supervisor stands, from the engine's environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class BadPlace(ValueError):
    """The environment is not that of a node's task."""


@dataclass(frozen=True, slots=True)
class Here:
    """`names`, `addresses`: of all nodes, in order. `devices`: this node's, as CUDA numbers them; none without GPUs."""

    attempt: str
    node_rank: int
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    devices: tuple[str, ...]
    files: Path
    folder: Path
    report: Path | None
    api_url: str | None
    checkpoints: Path | None

    @property
    def nodes(self) -> int:
        return len(self.names)

    @property
    def name(self) -> str:
        return self.names[self.node_rank]

    @property
    def leads(self) -> bool:
        return self.node_rank == 0


def read(env: Mapping[str, str]) -> Here:
    """Raises BadPlace, naming the variable."""
    names = _list(env, "SKERRY_NODE_NAMES") or ("localhost",)
    addresses = _list(env, "SKERRY_NODE_ADDRESSES") or ("127.0.0.1",)
    if len(names) != len(addresses):
        raise BadPlace("SKERRY_NODE_NAMES and SKERRY_NODE_ADDRESSES name different numbers of nodes")
    rank = env.get("SKERRY_NODE_RANK", "0")
    if not rank.isdigit() or int(rank) >= len(names):
        raise BadPlace(f"SKERRY_NODE_RANK is {rank!r}, with {len(names)} nodes")
    if "SKERRY_FILES" not in env:
        raise BadPlace("SKERRY_FILES is missing: a supervisor is started by an engine")
    report, checkpoints = env.get("SKERRY_REPORT"), env.get("SKERRY_CHECKPOINT_DIR")
    return Here(
        attempt=env.get("SKERRY_ATTEMPT", "attempt"),
        node_rank=int(rank),
        names=names,
        addresses=addresses,
        devices=_list(env, "CUDA_VISIBLE_DEVICES"),
        files=Path(env["SKERRY_FILES"]),
        folder=Path.cwd(),
        report=Path(report) if report else None,
        api_url=env.get("SKERRY_API_URL"),
        checkpoints=Path(checkpoints) if checkpoints else None,
    )


def _list(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part for part in env.get(name, "").split(",") if part)
