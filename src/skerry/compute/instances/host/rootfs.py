"""What an instance's root folder is made of: pure lists of steps for the stage.

Two kinds: an image (or a prepared root folder) under an overlay; or this machine's programs without its data, that is
/usr under an overlay, chosen parts of /etc, and everything else empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from skerry.compute.instances.host import boot, linux
from skerry.compute.instances.host.devices import DeviceNode
from skerry.compute.instances.host.plan import Copy, Folder, Inner, Link, Memory, Outer, Overlay, System, Text, Tree
from skerry.compute.instances.host.spec import InstanceSpec

_ETC: Final = (
    "alternatives", "apt/sources.list", "apt/sources.list.d", "apt/trusted.gpg.d", "bash.bashrc", "ca-certificates",
    "ca-certificates.conf", "debian_version", "default/locale", "dpkg", "gai.conf", "host.conf", "inputrc",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "login.defs", "magic",
    "mime.types", "nsswitch.conf",
    "OpenCL", "os-release", "pam.conf", "pam.d", "pki/ca-trust", "pki/tls/certs", "profile", "profile.d", "protocols",
    "python3", "python3.11", "rpc", "security", "selinux/semanage.conf", "services", "shells", "skel", "ssh/moduli",
    "ssh/ssh_config", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "vim", "vulkan",
)  # fmt: skip
"""Of this machine's /etc: nothing with a secret, a user or an address in it."""
_EMPTY: Final = (
    "boot", "dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var/cache",
    "var/lib", "var/local", "var/log", "var/mail", "var/opt", "var/spool", "var/tmp",
)  # fmt: skip
_STICKY: Final = ("tmp", "var/tmp")
_BASIC_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_MOUNTED: Final = linux.ATTR_NOSUID | linux.ATTR_NODEV
_SHM_BYTES: Final = 1 << 30
_INCLUDE: Final = "Include /etc/ssh/ssh_config.d/*.conf\n"


@dataclass(frozen=True, slots=True)
class Base:
    """Below what the instance writes. `folder` None: this machine's own programs. `env` is the image's."""

    folder: str | None
    env: dict[str, str] = field(default_factory=dict)
    passwd: str = ""
    group: str = ""
    shell: str = "/bin/bash"


@dataclass(frozen=True, slots=True)
class Place:
    """Folders of one instance on its node. `first` is the node's number of the instance's root user."""

    folder: Path
    scratch: Path
    tools: Path | None
    first: int = 0
    mapped: bool = False

    @property
    def root(self) -> str:
        return str(self.folder / "root")

    def owner(self, uid: int) -> tuple[int, int]:
        return self.first + uid, self.first + uid


def outer(spec: InstanceSpec, base: Base, place: Place, machine: Path = Path("/")) -> list[Outer]:
    """In the node's folders, up to the root folder."""
    scratch, own = place.scratch, place.owner(0)
    steps: list[Outer] = []
    if not spec.options.scratch:
        steps.append(Memory(str(scratch), spec.options.scratch_bytes))
    if base.folder is not None:
        steps += [Folder(str(scratch / "upper"), owner=own), Folder(str(scratch / "work"), owner=own)]
        steps.append(
            Overlay(base.folder, str(scratch / "upper"), str(scratch / "work"), place.root, mapped=place.mapped)
        )
        return steps
    layer = scratch / "upper"
    steps.append(Folder(str(layer), owner=own))
    steps += [Folder(str(layer / name), 0o1777 if name in _STICKY else 0o755, own) for name in _EMPTY]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if (machine / name).is_symlink():
            steps.append(Link(str(layer / name), str((machine / name).readlink()), own))
    steps += [Link(str(layer / "var/run"), "/run", own), Link(str(layer / "var/lock"), "/run/lock", own)]
    steps += [Copy(str(machine / "etc" / name), str(layer / "etc" / name), own) for name in _ETC]
    steps.append(Tree(str(layer), place.root))
    for name in ("usr", "var/lib/dpkg", *_real_folders(machine)):
        if (machine / name).is_dir():
            flat = name.replace("/", "-")
            up, work = str(scratch / f"upper-{flat}"), str(scratch / f"work-{flat}")
            steps += [Folder(up, owner=own), Folder(work, owner=own), Folder(f"{place.root}/{name}", owner=own)]
            steps.append(Overlay(str(machine / name), up, work, f"{place.root}/{name}", mapped=place.mapped))
    return steps


def inner(
    spec: InstanceSpec,
    base: Base,
    place: Place,
    devices: Sequence[DeviceNode],
    driver_files: Sequence[str],
    *,
    bare: bool,
) -> list[Inner]:
    """With the root folder as `/`. `bare`: nobody else makes /dev."""
    steps: list[Inner] = [*_files(spec, base), *_users(spec, base, place)]
    steps.append(Tree(str(place.folder / "boot"), boot.FOLDER, linux.ATTR_RDONLY | _MOUNTED))
    if place.tools is not None:
        steps.append(Tree(str(place.tools), f"{boot.FOLDER}/tools", linux.ATTR_RDONLY | _MOUNTED))
    steps.append(Tree(str(place.folder / "etc"), boot.ETC, linux.ATTR_RDONLY | _MOUNTED | linux.ATTR_NOEXEC))
    steps.append(Tree(str(place.folder / "etc/hosts"), "/etc/hosts", linux.ATTR_RDONLY | _MOUNTED, file=True))
    steps += _system(bare)
    if bare:
        steps += [Tree(f"/dev/{name}", f"/dev/{name}", file=True) for name in _BASIC_DEVICES]
        steps += [Tree(node.source, node.path, file=True) for node in devices]
    steps += [
        Tree(path, path, linux.ATTR_RDONLY | _MOUNTED, file=True) for path in driver_files if base.folder is not None
    ]
    steps += [Tree(path, path, linux.ATTR_RDONLY | _MOUNTED, mapped=place.mapped) for path in spec.options.expose]
    if spec.home is not None:
        steps.append(Tree(spec.home.path, boot.home_of(spec), _MOUNTED, mapped=place.mapped))
    else:
        steps.append(Folder(boot.home_of(spec), 0o700, _user(spec, place)))
    for volume in sorted(spec.volumes, key=lambda volume: volume.target):
        attributes = _MOUNTED | (linux.ATTR_RDONLY if volume.read_only else 0)
        steps.append(Tree(volume.path, volume.target, attributes, mapped=place.mapped))
    return steps


def _files(spec: InstanceSpec, base: Base) -> list[Inner]:
    return [
        Folder("/run/sshd"),
        Folder("/run/lock", 0o1777),
        Folder("/tmp", 0o1777),  # noqa: S108 - the instance's own
        *(Text(path, "", append=True) for path in ("/var/log/lastlog", "/var/log/wtmp", "/run/utmp")),
        Text("/etc/hostname", f"{spec.hostname}\n"),
        Text("/etc/resolv.conf", "# The node resolves names: programs reach the internet through $http_proxy.\n"),
        Text("/etc/sudoers.d/skerry", f"{spec.user} ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440),
        Text(
            "/etc/ssh/ssh_config.d/10-skerry.conf",
            f'Match exec "test -r {boot.ETC}/id_ed25519"\n  IdentityFile {boot.ETC}/id_ed25519\n',
        ),
        Text("/etc/ssh/ssh_config", _INCLUDE, append=True),
        Link("/etc/ssh/ssh_known_hosts", f"{boot.ETC}/known_hosts"),
        Link("/etc/mtab", "/proc/self/mounts"),
    ]


def _users(spec: InstanceSpec, base: Base, place: Place) -> list[Inner]:
    passwd = boot.passwd(spec, base.shell, base.passwd)
    return [
        Text("/etc/passwd", passwd),
        Text("/etc/group", boot.group(spec, base.group)),
        Text("/etc/shadow", boot.shadow(passwd), 0o600),
        Folder("/root", 0o700, place.owner(0)),
    ]


def _system(bare: bool) -> list[Inner]:
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    steps: list[Inner] = [
        System("sysfs", "/sys", flags | linux.MS_RDONLY),
        *(
            Memory(path, 0, flags=flags | linux.MS_RDONLY, mask=True)
            for path in ("/sys/firmware", "/sys/fs/cgroup", "/sys/kernel/debug", "/sys/kernel/security", "/sys/fs/bpf")
        ),
    ]
    if not bare:
        return steps
    return [
        *steps,
        Memory("/dev", 64 << 10, flags=linux.MS_NOSUID | linux.MS_NOEXEC),
        System("devpts", "/dev/pts", linux.MS_NOSUID | linux.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        Memory("/dev/shm", _SHM_BYTES, 0o1777, flags=flags),  # noqa: S108 - the instance's own
        Link("/dev/ptmx", "pts/ptmx"),
        *(Link(f"/dev/{name}", f"/proc/self/fd/{number}") for number, name in enumerate(("stdin", "stdout", "stderr"))),
        Link("/dev/fd", "/proc/self/fd"),
    ]


def _user(spec: InstanceSpec, place: Place) -> tuple[int, int]:
    return place.owner(0 if spec.user == "root" else spec.uid)


def _real_folders(machine: Path) -> list[str]:
    """Of machines where /bin and so on are not links into /usr."""
    return [name for name in ("bin", "sbin", "lib", "lib64") if not (machine / name).is_symlink()]
