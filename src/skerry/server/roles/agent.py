"""The agent: the only process that starts workloads on this machine, and the only one that keeps root."""

import asyncio
import hashlib
import os
import pwd
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from skerry.compute.engines.base import SERVER_NODE
from skerry.compute.engines.embedded.config import AgentConfig, LocalNode
from skerry.compute.engines.embedded.users import RunAs, can_reach, ensure_user
from skerry.compute.engines.select import serve, slurm_door
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.fleet.cgroups import cgroup_folders
from skerry.fleet.discover import discover
from skerry.fleet.local import numbered, shares
from skerry.fleet.model import LOCAL_NODES, Machine
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
    def virtual_nodes(self) -> int: ...

    @property
    def stopping(self) -> asyncio.Event: ...


async def run(context: AgentContext) -> None:
    """Serve until `stopping` is set, then end all tasks. Raises AgentRunning, NoSuchUser."""
    config = configure(context)
    slurm = None
    if context.settings.compute_engine == "slurm":
        config = replace(config, nodes=(replace(config.nodes[0], name=SERVER_NODE),))
        slurm = slurm_door_of(config), configure_slurm(context.settings, config)
    await serve(config, SystemClock(), slurm, context.stopping)


def configure(context: AgentContext) -> AgentConfig:
    settings = context.settings
    run_as = ensure_user() if os.geteuid() == 0 else None
    return AgentConfig(
        socket=settings.agent_socket,
        state=settings.run / "agent",
        logs=settings.logs / "attempts",
        work=work_folder(settings.state, run_as, SHARED_STATE),
        nodes=local_nodes(discover(), context.virtual_nodes),
        allowed_uids=context.allowed_uids,
        run_as=run_as,
        lifeline_fd=context.lifeline_fd,
        cgroups=cgroup_folders(),
    )


def configure_slurm(settings: Settings, agent: AgentConfig) -> SlurmConfig:
    """Jobs belong to whom the agent runs as; their tasks to the user that tasks run as, who must be on all nodes."""
    mark = slurm_door_of(agent).mark  # not this machine's engine's own, which ends what carries its mark unknown to it
    return SlurmConfig(
        mark=mark,
        state=agent.state / "slurm",
        shared=settings.slurm_shared or own_folder(SHARED_STATE / f"slurm-{mark}"),
        is_shared=settings.slurm_shared is not None,
        work=settings.slurm_work or SHARED_STATE / "slurm",
        partition=settings.slurm_partition,
        conf=settings.slurm_conf,
        run_as=agent.run_as,
        submit_user=pwd.getpwuid(os.geteuid()).pw_name,
        submit_options=tuple(shlex.split(settings.slurm_options)),
        fence_command=tuple(shlex.split(settings.slurm_fence)),
    )


def slurm_door_of(agent: AgentConfig) -> AgentConfig:
    """Beside this machine's own, with a folder of its own."""
    return replace(agent, socket=slurm_door(agent.socket), state=agent.state / "slurm-door", nodes=())


def own_folder(folder: Path) -> Path:
    """For orders and logs where all nodes are this machine: below it everything is closed to others."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    return folder


def local_nodes(machine: Machine, nodes: int = 1) -> tuple[LocalNode, ...]:
    """Virtual ones, which share cores and memory; the first is the machine itself where there are no others."""
    return tuple(
        LocalNode(
            name=f"{LOCAL_NODES}{n}",
            cores=machine.cores,
            memory_bytes=machine.memory_bytes,
            accelerators=tuple(accelerator.index for accelerator in numbered(own)),
            shared=not machine.gpus,
            gpus=tuple(accelerator.index for accelerator in own) if machine.gpus else (),
        )
        for n, own in enumerate(shares(machine, nodes), start=1)
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
