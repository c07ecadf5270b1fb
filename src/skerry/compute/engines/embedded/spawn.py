"""Starting one task: its folders, its environment, and what the child does between fork and exec."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from skerry.compute.engines.base import GangSpec, Limits
from skerry.compute.engines.embedded import rules
from skerry.compute.engines.embedded.cgroups import Group
from skerry.compute.engines.embedded.processes import ATTEMPT_MARK, ENGINE_MARK, RANK_MARK
from skerry.compute.engines.embedded.users import RunAs
from skerry.compute.model import Drop

REPORT: Final = "report.json"
_FILES: Final = "files"
_LOOPBACK: Final = "127.0.0.1"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPEN_FILES: Final = 16_384
# SIGXCPU comes at the limit, SIGKILL to who ignores it this much later.
_CPU_GRACE_SECONDS: Final = 5
# Under host-wide memory pressure tasks go before the database and ourselves.
_OOM_SCORE: Final = "300"


@dataclass(frozen=True, slots=True)
class Launch:
    """All that one rank is started with. `run_as` None: as whoever we are."""

    gang: GangSpec
    rank: int
    work: Path
    log: int
    devices: tuple[int, ...] | None
    """GPUs it may see; None: the machine has none."""
    engine: str
    run_as: RunAs | None
    group: Group | None
    lifeline: int | None
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Of nodes, where gangs reach each other. One that is not named is this host."""


def start(launch: Launch) -> subprocess.Popen[bytes]:
    """The leader of a new session, running the command. Raises OSError as exec does."""
    try:
        return subprocess.Popen(
            launch.gang.command,
            stdin=subprocess.DEVNULL,
            stdout=launch.log,
            stderr=launch.log,
            cwd=launch.work,
            env=environment(launch),
            start_new_session=True,
            pass_fds=() if launch.lifeline is None else (launch.lifeline,),
            umask=0o077,
            preexec_fn=_set_up(launch),
        )
    except subprocess.SubprocessError as error:
        raise OSError(0, "the child could not be set up; its log says why") from error


def prepare(launch: Launch) -> None:
    """Make the work folder with the secret files, all of it the task's own."""
    launch.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = launch.work / _FILES
    files.mkdir(mode=0o700, exist_ok=True)
    made = [launch.work, files]
    for name, content in launch.gang.files.items():
        path = files / name
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(content)
        made.append(path)
    if launch.run_as is not None and launch.gang.drop is not Drop.NEVER:
        for path in made:
            os.chown(path, launch.run_as.uid, launch.run_as.gid, follow_symlinks=False)


def clear(work: Path) -> None:
    """Remove a task's work folder, secrets included."""
    shutil.rmtree(work, ignore_errors=True)


def environment(launch: Launch) -> dict[str, str]:
    """Nothing of the agent's own environment gets in; what Skerry sets, the spec cannot override."""
    fixed = {
        ENGINE_MARK: launch.engine,
        ATTEMPT_MARK: launch.gang.attempt,
        RANK_MARK: str(launch.rank),
        "SKERRY_TASKS": str(launch.gang.tasks),
        "SKERRY_REPORT": str(launch.work / REPORT),
        "SKERRY_FILES": str(launch.work / _FILES),
        **places(launch),
    }
    if launch.run_as is not None and launch.gang.drop is Drop.BY_PROGRAM:
        fixed["SKERRY_RUN_AS"] = f"{launch.run_as.uid}:{launch.run_as.gid}"
    if launch.lifeline is not None:
        fixed["SKERRY_LIFELINE_FD"] = str(launch.lifeline)
    if launch.devices is not None:
        fixed["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, launch.devices))
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(launch.work), **launch.gang.env, **fixed}


def places(launch: Launch) -> dict[str, str]:
    """What a rank is told of its gang's nodes, all lists in the order of placements."""
    names = list(dict.fromkeys(placement.node for placement in launch.gang.placements))
    node, devices = rules.ranks(launch.gang)[launch.rank]
    devices = devices if launch.devices is None else launch.devices
    return {
        "SKERRY_NODES": str(len(names)),
        "SKERRY_NODE_RANK": str(names.index(node)),
        "SKERRY_NODE_NAME": node,
        "SKERRY_NODE_NAMES": ",".join(names),
        "SKERRY_NODE_ADDRESSES": ",".join(launch.addresses.get(name, _LOOPBACK) for name in names),
        "SKERRY_DEVICES": ",".join(map(str, devices)),
    }


def resource_limits(limits: Limits, *, count_processes: bool) -> Mapping[int, tuple[int, int]]:
    """(soft, hard) by RLIMIT number. None is raised above what we have ourselves: that would take privileges.

    RLIMIT_NPROC counts all processes of a user, other tasks' too: only where no control group can count instead.
    """
    wanted = {
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NOFILE: (limits.open_files or _OPEN_FILES,) * 2,
    }
    if limits.address_space_bytes is not None:
        wanted[resource.RLIMIT_AS] = (limits.address_space_bytes,) * 2
    if limits.cpu_seconds is not None:
        wanted[resource.RLIMIT_CPU] = (limits.cpu_seconds, limits.cpu_seconds + _CPU_GRACE_SECONDS)
    if limits.processes is not None and count_processes:
        wanted[resource.RLIMIT_NPROC] = (limits.processes,) * 2
    return {which: _within(resource.getrlimit(which)[1], *pair) for which, pair in wanted.items()}


def _within(ceiling: int, soft: int, hard: int) -> tuple[int, int]:
    if ceiling == resource.RLIM_INFINITY:
        return soft, hard
    return min(soft, ceiling), min(hard, ceiling)


def _set_up(launch: Launch) -> Callable[[], None]:
    """What runs in the child, after setsid: groups, limits, and last of all the user, since that gives up the rest."""
    limits = resource_limits(launch.gang.limits, count_processes=launch.group is None)
    run_as = launch.run_as if launch.gang.drop is Drop.BEFORE_EXEC else None
    group = launch.group

    def in_child() -> None:
        try:
            if group is not None:
                group.enter()
            with suppress(OSError):  # it is higher already, and only privileges lower it
                Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
            for which, pair in limits.items():
                resource.setrlimit(which, pair)
            if run_as is not None:
                os.setgroups([])
                os.setgid(run_as.gid)
                os.setuid(run_as.uid)
        except OSError as error:
            os.write(2, f"skerry: cannot set up the task: {error}\n".encode())
            raise

    return in_child
