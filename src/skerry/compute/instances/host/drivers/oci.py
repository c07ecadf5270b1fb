"""A container of runc: user namespace, system call filter, few capabilities, control groups. A boundary between tenants
as far as containers are one: they share the node's kernel.

The root folder and the network are the stage's, in its own namespaces; runc is given them ready. The container's
users are users of the node that nobody else has, and the files of images and volumes are shown to it under its own
numbers.
"""

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from skerry.compute.instances.host import limits
from skerry.compute.instances.host.devices import DeviceNode
from skerry.compute.instances.host.drivers import seccomp
from skerry.compute.instances.host.drivers.isolated import Isolated
from skerry.compute.instances.host.drivers.netns import CAPABILITIES
from skerry.compute.instances.host.plan import StagePlan
from skerry.compute.instances.host.spec import DriverName, InstanceSpec
from skerry.compute.instances.host.stage import MASKED, READ_ONLY, USERS

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHM: Final = "size=1g"
_SECONDS: Final = 20.0
_MAPPED_OVERLAYS: Final = (5, 19)


class OciDriver(Isolated):
    """See the module."""

    name: ClassVar = DriverName.OCI
    bare: ClassVar = False

    def why_not(self, spec: InstanceSpec) -> str | None:
        if os.geteuid() != 0:
            return "the engine's agent on this node is not root"
        if _runc() is None:
            return "runc is not installed on this node (package runc)"
        return None

    def boundary(self, spec: InstanceSpec) -> bool:
        return _user_namespaces()

    def clear(self, name: str) -> None:
        bundle = self.ground.folder(name) / "bundle"
        runc = _runc()
        if runc is not None and (bundle / "runc" / name).is_dir():
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [runc, "--root", str(bundle / "runc"), "delete", "--force", name],
                    env={"PATH": _PATH},
                    capture_output=True,
                    timeout=_SECONDS,
                    check=False,
                )
        super().clear(name)

    def finished(self, plan: StagePlan, spec: InstanceSpec, nodes: Sequence[DeviceNode]) -> StagePlan:
        runc = _runc()
        assert runc is not None
        return msgspec.structs.replace(plan, runc=runc, config=config(plan, spec, nodes, platform.machine()))


def config(plan: StagePlan, spec: InstanceSpec, nodes: Sequence[DeviceNode], machine: str) -> dict[str, Any]:
    """runc's `config.json`, but for the network namespace, which the stage adds."""
    capabilities = [f"CAP_{name}" for name in CAPABILITIES]
    namespaces = [{"type": name} for name in ("pid", "ipc", "uts", "mount", "cgroup")]
    linux: dict[str, Any] = {
        "cgroupsPath": f"/{limits.FOLDER}/{plan.name}",
        "resources": resources(spec, nodes),
        "namespaces": namespaces,
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(READ_ONLY),
        "seccomp": seccomp.profile(machine),
        "devices": [
            {"path": node.path, "type": node.kind, "major": node.major, "minor": node.minor, "fileMode": 0o666}
            for node in nodes
        ],
    }
    if plan.users is not None:
        namespaces.append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": plan.users, "size": USERS}]
    return {
        "ociVersion": "1.0.2",
        "hostname": plan.hostname,
        "root": {"path": plan.root},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": plan.command,
            "env": plan.env,
            "cwd": "/",
            # Programs such as sudo and ping may raise privileges, within the container.
            "noNewPrivileges": False,
            "capabilities": {kind: capabilities for kind in ("bounding", "effective", "permitted")},
            "oomScoreAdj": 300,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            _memory("/dev", "mode=755", "size=64k", "nosuid", "strictatime"),
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            _memory("/dev/shm", "mode=1777", _SHM, "nosuid", "noexec", "nodev"),  # noqa: S108 - the instance's own
            {
                "destination": "/dev/mqueue",
                "type": "mqueue",
                "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
        ],
        "linux": linux,
    }


def resources(spec: InstanceSpec, nodes: Sequence[DeviceNode]) -> dict[str, Any]:
    """runc itself allows the devices that every container has."""
    found: dict[str, Any] = {
        "devices": [
            {"allow": False, "access": "rwm"},
            *(
                {"allow": True, "type": node.kind, "major": node.major, "minor": node.minor, "access": "rw"}
                for node in nodes
            ),
        ]
    }
    if spec.limits.memory_bytes is not None:
        found["memory"] = {"limit": spec.limits.memory_bytes, "swap": spec.limits.memory_bytes}
    if spec.limits.cpus is not None:
        found["cpu"] = {"quota": limits.quota(spec.limits.cpus), "period": limits.PERIOD_US}
    if spec.limits.processes is not None:
        found["pids"] = {"limit": spec.limits.processes}
    return found


def _memory(destination: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def _user_namespaces(proc: Path = Path("/proc/sys")) -> bool:
    """Whether they are switched on here, and overlays can show files under other users' numbers (Linux ≥ 5.19)."""
    try:
        most = int((proc / "user/max_user_namespaces").read_text())
        release = tuple(map(int, (proc / "kernel/osrelease").read_text().split(".")[:2]))
    except (OSError, ValueError):
        return False
    return most > 0 and release >= _MAPPED_OVERLAYS


def _runc() -> str | None:
    return shutil.which("runc", path=_PATH)
