"""The agent: the only process that starts workloads on this machine, and the only one that keeps root."""

import asyncio
import hashlib
import os
import pwd
import shlex
from pathlib import Path
from typing import Final, Protocol

from skerry.compute.engines.embedded.config import AgentConfig, LocalNode
from skerry.compute.engines.embedded.users import RunAs, can_reach, ensure_user
from skerry.compute.engines.select import agent_of
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.fleet.discover import cgroup_folders, discover
from skerry.fleet.model import LOCAL_NODE, Machine
from skerry.kernel.clock import SystemClock
from skerry.runtime.settings import Settings

SHARED_STATE: Final = Path("/var/lib/skerry")
"""Where tasks work when the way to the state folder is closed to the user they run as."""


class AgentContext(Protocol):
    """What this role needs of a role's context."""

    @property
    def settings(self) -> Settings: ...

    @property
    def allowed_uids(self) -> frozenset[int]: ...

    @property
    def lifeline_fd(self) -> int | None: ...

    @property
    def stopping(self) -> asyncio.Event: ...


async def run(context: AgentContext) -> None:
    """Serve until `stopping` is set, then end all tasks. Raises AgentRunning, NoSuchUser."""
    config = configure(context)
    slurm = configure_slurm(context.settings, config) if context.settings.compute_engine == "slurm" else None
    await agent_of(config, SystemClock(), slurm).run(context.stopping)


def configure(context: AgentContext) -> AgentConfig:
    settings = context.settings
    run_as = ensure_user() if os.geteuid() == 0 else None
    return AgentConfig(
        socket=settings.agent_socket,
        state=settings.run / "agent",
        logs=settings.logs / "attempts",
        work=work_folder(settings.state, run_as, SHARED_STATE),
        nodes=(local_node(discover()),),
        allowed_uids=context.allowed_uids,
        run_as=run_as,
        lifeline_fd=context.lifeline_fd,
        cgroups=cgroup_folders(),
    )


def configure_slurm(settings: Settings, agent: AgentConfig) -> SlurmConfig:
    """Jobs belong to whom the agent runs as; their tasks to the user that tasks run as, who must be on all nodes."""
    assert settings.slurm_shared is not None, "checked at the start"
    return SlurmConfig(
        mark=agent.mark,
        state=agent.state / "slurm",
        shared=settings.slurm_shared,
        work=settings.slurm_work or SHARED_STATE / "slurm",
        partition=settings.slurm_partition,
        conf=settings.slurm_conf,
        run_as=agent.run_as,
        submit_user=pwd.getpwuid(os.geteuid()).pw_name,
        submit_options=tuple(shlex.split(settings.slurm_options)),
        fence_command=tuple(shlex.split(settings.slurm_fence)),
    )


def local_node(machine: Machine) -> LocalNode:
    return LocalNode(
        name=LOCAL_NODE,
        cores=machine.cores,
        memory_bytes=machine.memory_bytes,
        accelerators=tuple(accelerator.index for accelerator in machine.accelerators),
        shared=not machine.gpus,
    )


def work_folder(state: Path, run_as: RunAs | None, shared: Path) -> Path:
    """Where tasks work: below `state`, or below a folder of our own that the tasks' user can pass into.

    Permissions of folders that are not ours are never widened.
    """
    folder = state / "tasks"
    if run_as is not None and not can_reach(run_as, state):
        folder = shared / f"tasks-{hashlib.sha256(os.fsencode(state)).hexdigest()[:12]}"
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(mode=0o711)
            path.chmod(0o711)  # whatever the umask
    return folder
