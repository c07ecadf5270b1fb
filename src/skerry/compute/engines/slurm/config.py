"""What a Slurm engine is set up with."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from skerry.compute.engines.embedded.users import RunAs

RUNNER: Final = (sys.executable, "-I", "-m", "skerry.compute.engines.slurm.node")


@dataclass(frozen=True, slots=True)
class SlurmConfig:
    """`mark` tells this installation's jobs and processes from those of others on the same cluster."""

    mark: str
    state: Path
    """The engine's own records. Only one engine may have them."""
    shared: Path
    """A folder that engine and nodes see under the same path: orders, ranks and logs of attempts."""
    is_shared: bool = field(default=True, kw_only=True)
    """False: `shared` is this machine's alone, and so all nodes have to be this machine."""
    work: Path
    """On each node: where tasks work; the user they run as must be able to pass through its parents."""
    partition: str
    conf: Path | None = None
    """slurm.conf, where it is not in Slurm's own place."""
    run_as: RunAs | None = None
    """None: tasks run as whoever submits."""
    submit_user: str = "root"
    """Whom jobs belong to, as Slurm sees it: reservations are for this user."""
    runner: tuple[str, ...] = RUNNER
    """How a node starts `node.py`; it needs the same Skerry at the same path."""
    submit_options: tuple[str, ...] = ()
    """More for `sbatch`, such as `--account=…`."""
    fence_command: tuple[str, ...] = ()
    """Run with a node's name as last argument; 0 says that nothing runs there any more (power off, or over SSH)."""
    one_host: bool = False
    """All nodes are this host (virtual nodes): fencing ends what runs on a node by itself."""
    cgroups: bool = True
    """Whether a node tries to make control groups for tasks."""
    call_seconds: float = 10.0
    """No Slurm command may take longer: with the controller away they block for minutes."""
    poll_seconds: float = 1.0
    silent_seconds: float = 10.0
    """A runner that gave no sign of life for so long, whose job is over, is dead."""
    fence_seconds: float = 30.0
    log_bytes: int = 8 << 20
    log_parts: int = 4

    @property
    def prefix(self) -> str:
        """Of the names of jobs and reservations."""
        return f"skerry-{self.mark}-"
