"""Bubblewrap: what a task may see of its node, and whether that works here.

By root it is run without a user namespace: so it can reach folders below a closed home, and the first process inside
becomes the project's user. By anybody else it makes a user namespace, where the kernel lets it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROBE_SECONDS: Final = 5.0
_USR: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What programs look up, and nothing that is a secret: no shadow, no keys, no configuration of services.
_ETC: Final = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "fonts", "gai.conf", "host.conf", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "libibverbs.d", "libnl-3", "locale.alias", "localtime", "mime.types", "nsswitch.conf",
    "OpenCL", "pki/ca-trust", "pki/tls/certs", "pki/tls/cert.pem", "protocols", "resolv.conf", "services", "ssl/certs",
    "ssl/openssl.cnf", "terminfo", "timezone", "vulkan",
)  # fmt: skip
_GPU: Final = (
    "/dev/nvidiactl", "/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-caps", "/dev/kfd",
)  # fmt: skip
_FABRIC: Final = ("/dev/infiniband", "/dev/nvidia-caps-imex-channels")
_SYS: Final = ("/sys/devices/system", "/sys/module/nvidia", "/sys/module/amdgpu")
_SYS_GPU: Final = ("/sys/bus", "/sys/class", "/sys/dev", "/sys/devices", "/sys/module")
RESERVED: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev", "/sys")
"""Nothing can be mounted there."""


@dataclass(frozen=True, slots=True)
class Bind:
    source: str
    target: str
    read_only: bool = False
    identity: tuple[int, int] | None = None
    """Device and inode that must be found there, lest somebody has moved another folder to its place."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`devices`: indexes of the GPUs it has; None: none. `network`: that of the host, else a loopback of its own."""

    work: str
    temporary: str
    mounts: tuple[Bind, ...] = ()
    read_only: tuple[str, ...] = ()
    etc: tuple[Bind, ...] = ()
    """Files put in the place of the node's own."""
    hidden: tuple[str, ...] = ()
    devices: tuple[int, ...] | None = None
    network: bool = False
    privileged: bool = True
    """Started by root."""

    def arguments(self, program: str) -> list[str]:
        """What bubblewrap is called with, up to the command."""
        visible = _outermost([*self.read_only, "/usr"])
        found = [program, "--as-pid-1", "--die-with-parent", *_namespaces(self)]
        found += ["--ro-bind", "/usr", "/usr", *_usr_links(), "--bind", self.temporary, "/tmp"]  # noqa: S108
        found += self._parents()
        found += _each("--ro-bind-try", [f"/etc/{name}" for name in _ETC])
        found += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108
        found += _each("--dev-bind-try", _devices(self))
        found += _each("--ro-bind-try", _SYS if self.devices is None else _SYS_GPU)
        found += _each("--ro-bind", [path for path in visible if path != "/usr"])
        for path in self.hidden:
            if any(is_below(path, folder) for folder in visible):
                found += ["--tmpfs", path]
        found += ["--bind", self.work, self.work]
        for bind in (*self.etc, *self.mounts):
            found += ["--ro-bind" if bind.read_only else "--bind", bind.source, bind.target]
        return [*found, "--remount-ro", "/", "--chdir", "/", "--"]

    def _parents(self) -> list[str]:
        """Made here, for all to pass through: bubblewrap itself would make them for their owner, root, alone."""
        targets = [*self.read_only, self.work, *(bind.target for bind in self.mounts), *_SYS, *_SYS_GPU]
        targets += [f"/etc/{name}" for name in _ETC]
        folders = {str(folder) for target in targets for folder in Path(target).parents} - {"/", "/usr", *_USR, "/tmp"}  # noqa: S108
        return [part for folder in sorted(folders) for part in ("--perms", "0755", "--dir", folder)]


def python_folders() -> tuple[str, ...]:
    """What Python and Skerry's own programs need, wherever they are installed."""
    package = str(Path(__file__).resolve().parents[2])
    return tuple(os.path.realpath(path) for path in (sys.base_prefix, sys.prefix, package))


def python_bin() -> tuple[str, ...]:
    return (os.path.join(sys.prefix, "bin"),)  # noqa: PTH118 - not resolved: a virtual environment is a name


def find() -> str | None:
    return shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")


def probe() -> str:
    """Why it does not work here; empty: it does. Tries it as tasks are started, and takes milliseconds."""
    program = find()
    if program is None:
        return "bubblewrap (bwrap) is not installed"
    here = Path("/")
    sandbox = Sandbox(work="/usr", temporary="/usr", privileged=os.geteuid() == 0)
    command = [part for part in sandbox.arguments(program) if part != "--as-pid-1"]
    try:
        done = subprocess.run(
            [*command, "/bin/true"], capture_output=True, timeout=PROBE_SECONDS, check=False, cwd=here, env={}
        )
    except subprocess.TimeoutExpired:
        return f"bubblewrap did not answer within {PROBE_SECONDS:.0f} s"
    except OSError as error:
        return f"bubblewrap cannot be run: {error}"
    if done.returncode != 0:
        return f"bubblewrap does not work here: {done.stderr.decode(errors='replace').strip()[:300] or done.returncode}"
    return ""


def is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _namespaces(sandbox: Sandbox) -> list[str]:
    found = ["--unshare-ipc", "--unshare-pid", "--unshare-cgroup-try"]
    if not sandbox.network:
        found += ["--unshare-net", "--unshare-uts", "--hostname", "task"]
    if not sandbox.privileged:
        return [*found, "--unshare-user", "--disable-userns"]
    # To become the project's user, and to give up all that is left. Bubblewrap itself sets "no new privileges".
    keep = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
    return [*found, "--cap-drop", "ALL", *(part for name in keep for part in ("--cap-add", name))]


def _usr_links() -> list[str]:
    found: list[str] = []
    for name in _USR:
        path = Path(name)
        if path.is_symlink():
            found += ["--symlink", os.readlink(path), name]
        elif path.is_dir():
            found += ["--ro-bind", name, name]
    return found


def _devices(sandbox: Sandbox) -> Iterable[str]:
    if sandbox.devices is not None:
        yield from _GPU
        yield from (f"/dev/nvidia{index}" for index in sandbox.devices)
        yield from (f"/dev/dri/renderD{128 + index}" for index in sandbox.devices)
    if sandbox.network:
        yield from _FABRIC


def _each(option: str, paths: Sequence[str] | Iterable[str]) -> list[str]:
    return [part for path in paths for part in (option, path, path)]


def _outermost(paths: Iterable[str]) -> list[str]:
    """Without those that lie below another."""
    unique = sorted(set(paths), key=len)
    return [path for place, path in enumerate(unique) if not any(is_below(path, up) for up in unique[:place])]
