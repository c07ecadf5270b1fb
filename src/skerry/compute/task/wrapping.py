"""From a workload that runs what a customer gave to the program of ours that runs it. Pure."""

import posixpath
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from skerry.compute.model import Attempt, Drop, Mount, MountKind, WorkloadSpec
from skerry.compute.task.order import (
    ORDER_FILE,
    TOKEN_FILE,
    MountOrder,
    ProjectUser,
    SandboxWish,
    SourceOrder,
    TaskOrder,
)
from skerry.compute.task.sandbox import RESERVED
from skerry.kernel.ids import ProjectId

PROGRAM: Final = ("-I", "-m", "skerry.compute.task")


@dataclass(frozen=True, slots=True)
class Roots:
    """Folders of the nodes, absolute. `shared`: one that all nodes see; without it checkpoints lie below `state` on
    each node and are exchanged over the control API, unless there is but one machine (`one_host`)."""

    state: str
    shared: str | None = None
    volumes: str | None = None
    one_host: bool = True
    hidden: tuple[str, ...] = ()
    """What no task may see: the installation's home, its state."""
    shown: tuple[str, ...] = ()
    """What every task may read: an operator's own software."""

    def base(self, project: ProjectId, kind: MountKind) -> str:
        """The folder of one project: the name of a mount never leads out of it. Raises ValueError for none."""
        if kind is MountKind.CHECKPOINTS:
            return posixpath.join(self.shared or self.state, "checkpoints", project)
        folder = self.volumes if kind is MountKind.VOLUME else self.shared
        if folder is None:
            raise ValueError(f"this installation has no folder for mounts of kind {kind.value}")
        return posixpath.join(folder, project)


@dataclass(frozen=True, slots=True)
class WrapContext:
    """What is not in the spec. `TaskContexts` (compute/nodes) finds it for an attempt."""

    api_url: str
    """Where nodes find the control API: `http(s)://…`, or `unix:PATH`."""
    token: str
    roots: Roots
    user: ProjectUser | None
    source: SourceOrder | None = None
    trusted: bool = False
    sandbox_trusted: bool = True
    """Whether code of a trusted project is put into a sandbox too, where there is one."""
    python: str = sys.executable


class Wrapped(NamedTuple):
    """For `GangSpec`."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, str]
    drop: Drop


def needs_wrapping(spec: WorkloadSpec) -> bool:
    return spec.customer_code or spec.source is not None or bool(spec.mounts)


def wrapped(spec: WorkloadSpec, attempt: Attempt, context: WrapContext, files: Mapping[str, str]) -> Wrapped:
    """`files` are the workload's secret files, decrypted. Raises ValueError for a mount that cannot be had."""
    order = TaskOrder(
        command=spec.command,
        api_url=context.api_url,
        env=dict(spec.env),
        user=context.user,
        source=context.source,
        mounts=tuple(_mount(mount, attempt, context.roots) for mount in spec.mounts),
        sandbox=_sandbox(spec, context),
        network=context.trusted or spec.tasks > 1,
        hidden=context.roots.hidden,
        shown=context.roots.shown,
        grace_seconds=spec.grace_seconds,
    )
    ours = {ORDER_FILE: order.to_json(), TOKEN_FILE: context.token}
    return Wrapped((context.python, *PROGRAM), {}, {**files, **ours}, Drop.NEVER)


def _sandbox(spec: WorkloadSpec, context: WrapContext) -> SandboxWish:
    if spec.customer_code and not context.trusted:
        return SandboxWish.REQUIRED
    return SandboxWish.WANTED if context.sandbox_trusted else SandboxWish.NONE


def _mount(mount: Mount, attempt: Attempt, roots: Roots) -> MountOrder:
    parts = [part for part in mount.name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in mount.name:
        raise ValueError(f"{mount.name!r} is not the name of a folder to mount")
    _check_target(mount.target)
    return MountOrder(
        kind=mount.kind.value,
        base=roots.base(attempt.project, mount.kind),
        name="/".join(parts),
        target=mount.target,
        read_only=mount.read_only,
        # A volume that is not there is a mistake to be told, not an empty folder to be written to.
        make=mount.kind is MountKind.CHECKPOINTS,
        exchanged=mount.kind is MountKind.CHECKPOINTS and roots.shared is None and not roots.one_host,
    )


def _check_target(target: str) -> None:
    if not target.startswith("/") or posixpath.normpath(target) != target or "\0" in target or target == "/":
        raise ValueError(f"{target!r} is not a place to mount at: it must be an absolute path, as short as can be")
    if any(target == taken or target.startswith(f"{taken}/") for taken in RESERVED):
        raise ValueError(f"{target} cannot be mounted at: the system's own folders are there")
