"""What an agent is started with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from skerry.compute.engines.embedded.users import RunAs


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node this agent starts tasks on. Memory in bytes.

    `accelerators` are the numbers of GPUs, or of cores where `shared`: those are counted, not handed out.
    """

    name: str
    cores: int
    memory_bytes: int
    accelerators: tuple[int, ...]
    shared: bool
    gpus: tuple[int, ...] = ()
    """The machine's own number of each accelerator where it is another: nodes that share one count from 0 each."""

    def on_machine(self, devices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.gpus[device] for device in devices) if self.gpus else devices


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """`cgroups` maps a controller to (mount, our own group), with the version 2 tree under ``."""

    socket: Path
    state: Path
    """Small files that the agent needs to know its tasks again."""
    logs: Path
    work: Path
    """Working folders of tasks; the user they run as must be able to pass through its parents."""
    nodes: tuple[LocalNode, ...]
    allowed_uids: frozenset[int]
    """Users that may call."""
    run_as: RunAs | None = None
    """None: tasks run as whoever the agent is."""
    lifeline_fd: int | None = None
    cgroups: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    log_bytes: int = 8 << 20
    log_parts: int = 4
    """Rotated parts that are kept, beside the current file."""

    @property
    def mark(self) -> str:
        """Tells this installation's tasks from those of others on the same machine."""
        return blake2b(str(self.state.resolve()).encode(), digest_size=8).hexdigest()
