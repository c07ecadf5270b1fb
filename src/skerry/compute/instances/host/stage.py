"""The child that becomes an instance: namespaces, mounts, first process. Started by the host program, as root:

    python -I -m skerry.compute.instances.host.stage PLAN CONTROL      (numbers of descriptors)

All mounts are made in its own mount namespace, and it dies with the host program: nothing has to be unmounted after a
crash. Standard input is the host program's lifeline, which the instance's first process watches too.
"""

import errno
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from skerry.compute.instances.host import linux
from skerry.compute.instances.host.plan import (
    GO,
    READY,
    STARTED,
    Copy,
    Folder,
    Inner,
    Link,
    Memory,
    Outer,
    Overlay,
    StageFailure,
    StagePlan,
    System,
    Text,
    Tree,
)
from skerry.compute.instances.host.spec import EXIT_REFUSED

USERS: Final = 65_536
Owner = tuple[int, int]
_LAST_CAPABILITY: Final = Path("/proc/sys/kernel/cap_last_cap")


def main(arguments: list[str]) -> int:
    plan_fd, control = map(int, arguments)
    with os.fdopen(plan_fd, "rb") as file:
        plan = msgspec.json.decode(file.read(), type=StagePlan)
    os.set_inheritable(control, False)
    linux.die_with_parent(signal.SIGKILL)
    try:
        linux.unshare(linux.CLONE_NEWNS | (0 if plan.whole_node else linux.CLONE_NEWNET))
        linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
        if not plan.whole_node:
            _open_network()
        os.write(control, READY)
        if not build(plan):
            return EXIT_REFUSED
        if os.read(control, 1) != GO:
            raise StageFailure("the host program went away")
        if plan.whole_node:
            _become_program(plan, control)
        if plan.config is not None:
            return _run_container(plan, control)
        return _run(plan, control)
    except (OSError, StageFailure) as error:
        print(f"skerry: the instance cannot be set up: {_words(error)}", file=sys.stderr)  # noqa: T201 - its log
        return EXIT_REFUSED


def _open_network() -> None:
    """In a user namespace, root has no rights over the network: low ports and ping are there for everybody instead."""
    settings = Path("/proc/sys/net/ipv4")
    (settings / "ip_unprivileged_port_start").write_text("0")
    (settings / "ping_group_range").write_text("0 2147483647")


def build(plan: StagePlan) -> bool:
    """The root folder, in a mount namespace that is ours. False: the child has said why not."""
    root = (plan.users or 0, plan.users or 0)
    userns = _user_namespace(plan.users) if plan.users is not None else None
    for outer in plan.outer:
        _outside(outer, root, userns)
    trees = {
        number: linux.clone_tree(step.source, step.attributes, userns if step.mapped else None)
        for number, step in enumerate(plan.inner)
        if isinstance(step, Tree)
    }
    child = os.fork() if plan.inner else -1
    if child == 0:
        linux.die_with_parent(signal.SIGKILL)
        os._exit(_build_inside(plan, root, trees))
    if child > 0 and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        return False
    for tree in (*trees.values(), *([] if userns is None else [userns])):
        os.close(tree)
    return True


def _outside(step: Outer, root: Owner, userns: int | None) -> None:
    match step:
        case Folder():
            _make_folder(step, root)
        case Memory():
            _make_memory(step, root)
        case Link():
            _make_link(step, root)
        case Copy():
            _copy(step, root)
        case Tree():
            if not step.file:
                Path(step.path).mkdir(parents=True, exist_ok=True)
            linux.move_tree(linux.clone_tree(step.source, step.attributes, userns if step.mapped else None), step.path)
        case Overlay():
            lower = step.lower
            Path(step.path).mkdir(parents=True, exist_ok=True)
            if step.mapped:
                lower = f"{step.work}-lower"
                Path(lower).mkdir()
                linux.move_tree(linux.clone_tree(step.lower, 0, userns), lower)
            linux.mount(
                "overlay",
                step.path,
                "overlay",
                linux.MS_NODEV,
                f"lowerdir={lower},upperdir={step.upper},workdir={step.work}",
            )


def _build_inside(plan: StagePlan, root: Owner, trees: dict[int, int]) -> int:
    """In a child with the instance's root as its own: absolute links of an image lead into the image."""
    try:
        os.chroot(plan.root)
        os.chdir("/")
        for number, step in enumerate(plan.inner):
            _inside(step, root, trees.get(number, -1))
        if plan.need and not _has(plan.need, plan.env):
            raise StageFailure(f"there is no `{plan.need}` in the image: install it there, or use another template")
    except (OSError, StageFailure) as error:
        print(f"skerry: the instance cannot be set up: {_words(error)}", file=sys.stderr)  # noqa: T201 - its log
        return 1
    return 0


def _inside(step: Inner, root: Owner, tree: int) -> None:
    match step:
        case Folder():
            _make_folder(step, root)
        case Memory():
            if not Path(step.path).is_dir():
                if step.mask:
                    return
                _make_parents(Path(step.path), root)
            _make_memory(step, root)
        case Link():
            _make_link(step, root)
        case Text():
            _make_text(step, root)
        case System():
            _make_parents(Path(step.path), root)
            linux.mount(step.kind, step.path, step.kind, step.flags, step.data)
        case Tree():
            if step.file:
                _make_parents(Path(step.path).parent, root)
                Path(step.path).touch()
            else:
                _make_parents(Path(step.path), root)
            linux.move_tree(tree, step.path)


def _run(plan: StagePlan, control: int) -> int:
    """Begin the instance ourselves. Returns when it has ended."""
    linux.unshare(linux.CLONE_NEWPID | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
    child = os.fork()
    if child == 0:
        try:
            _become_first(plan)
        except OSError as error:
            print(f"skerry: the instance cannot be started: {_words(error)}", file=sys.stderr)  # noqa: T201 - its log
        os._exit(EXIT_REFUSED)
    os.write(control, STARTED + f"{child}\n".encode())
    return _code(os.waitpid(child, 0)[1])


def _become_program(plan: StagePlan, control: int) -> NoReturn:
    """Of the node itself, in our mounts."""
    for group in plan.groups:
        Path(group, "cgroup.procs").write_text("0")
    os.write(control, STARTED + f"{os.getpid()}\n".encode())
    _reset_signals()
    os.execve(plan.command[0], plan.command, dict(entry.split("=", 1) for entry in plan.env))  # noqa: S606 - no shell is wanted


def _become_first(plan: StagePlan) -> NoReturn:
    linux.die_with_parent(signal.SIGKILL)
    for group in plan.groups:
        Path(group, "cgroup.procs").write_text("0")
    linux.sethostname(plan.hostname)
    os.chdir(plan.root)
    linux.pivot_root(".", ".")
    linux.unmount(".")
    os.chdir("/")
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("proc", "/proc", "proc", flags)
    _mask_proc()
    os.setsid()
    linux.keep_capabilities(frozenset(plan.capabilities), int(_LAST_CAPABILITY.read_text()))
    _reset_signals()
    os.execve(plan.command[0], plan.command, dict(entry.split("=", 1) for entry in plan.env))  # noqa: S606 - no shell is wanted


MASKED: Final = (
    "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/config.gz",
)  # fmt: skip
READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def _mask_proc() -> None:
    for path in READ_ONLY:
        if Path(path).exists():
            linux.move_tree(linux.clone_tree(path, linux.ATTR_RDONLY), path)
    for path in MASKED:
        if Path(path).is_dir():
            linux.mount("tmpfs", path, "tmpfs", linux.MS_RDONLY, "size=0")
        elif Path(path).exists():
            linux.move_tree(linux.clone_tree("/dev/null"), path)


def _run_container(plan: StagePlan, control: int) -> int:
    """Begin it by runc, in our mount and network namespaces. Returns when it has ended."""
    pid_file = Path(plan.bundle, "pid")
    state = str(Path(plan.bundle, "runc"))
    config = plan.config
    assert config is not None
    config["linux"]["namespaces"].append({"type": "network", "path": f"/proc/{os.getpid()}/ns/net"})
    _write(Path(plan.bundle, "config.json"), msgspec.json.encode(config))
    pid_file.unlink(missing_ok=True)
    created = subprocess.run(
        [plan.runc, "--root", state, "create", "--bundle", plan.bundle, "--pid-file", str(pid_file), plan.name],
        env={"PATH": os.defpath, "XDG_RUNTIME_DIR": plan.bundle},
        check=False,
    )
    if created.returncode != 0:
        raise StageFailure("runc could not make the container; its own words are above")
    pid = int(pid_file.read_text())
    watch = os.pidfd_open(pid)
    started = subprocess.run([plan.runc, "--root", state, "start", plan.name], check=False)
    if started.returncode != 0:
        raise StageFailure("runc could not start the container; its own words are above")
    os.write(control, STARTED + f"{pid}\n".encode())
    select.select([watch], [], [])  # we are not its parent
    return 0


def _user_namespace(first: int) -> int:
    """A descriptor of a user namespace that maps users 0… to `first`…"""
    ready, release = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            linux.die_with_parent(signal.SIGKILL)
            os.close(release[1])
            linux.unshare(linux.CLONE_NEWUSER)
            os.write(ready[1], b"1")
            os.read(release[0], 1)
        finally:
            os._exit(0)
    os.close(ready[1])
    try:
        if not os.read(ready[0], 1):
            raise OSError(errno.EPERM, "no user namespaces here")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"0 {first} {USERS}\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (ready[0], *release):
            os.close(descriptor)
        os.waitpid(child, 0)


def _make_folder(step: Folder, root: Owner) -> None:
    path = Path(step.path)
    there = path.is_dir()
    _make_parents(path, root)
    if not there or step.owner is not None:
        path.chmod(step.mode)
        os.chown(path, *(step.owner or root))


def _make_memory(step: Memory, root: Owner) -> None:
    uid, gid = step.owner or root
    linux.mount("tmpfs", step.path, "tmpfs", step.flags, f"size={step.bytes},mode={step.mode:o},uid={uid},gid={gid}")


def _make_link(step: Link, root: Owner) -> None:
    path = Path(step.path)
    if path.is_symlink() or path.exists():
        path.unlink()
    _make_parents(path.parent, root)
    path.symlink_to(step.target)
    os.chown(path, *(step.owner or root), follow_symlinks=False)


def _make_text(step: Text, root: Owner) -> None:
    path = Path(step.path)
    _make_parents(path.parent, root)
    before = path.read_text(errors="surrogateescape") if step.append and path.exists() else ""
    if step.append and path.exists() and step.text in before:
        return
    if path.is_symlink():  # of the image; what it points to is left alone
        path.unlink()
    path.write_text(before + step.text, errors="surrogateescape")
    path.chmod(step.mode)
    os.chown(path, *(step.owner or root))


def _copy(step: Copy, root: Owner) -> None:
    source, path = Path(step.source), Path(step.path)
    if not os.path.lexists(source):
        return
    _make_parents(path.parent, root)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, path, symlinks=True, ignore_dangling_symlinks=True)
    else:
        shutil.copy2(source, path, follow_symlinks=False)
    if step.owner == (0, 0):
        return
    os.chown(path, *step.owner, follow_symlinks=False)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(Path(folder, name), *step.owner, follow_symlinks=False)


def _make_parents(path: Path, root: Owner) -> None:
    """A folder with all above it; those that were missing belong to the instance's root."""
    if path.is_dir():
        return
    _make_parents(path.parent, root)
    path.mkdir()
    os.chown(path, *root)


def _has(program: str, env: list[str]) -> bool:
    path = next((entry.partition("=")[2] for entry in env if entry.startswith("PATH=")), os.defpath)
    return any(os.access(Path(folder, program), os.X_OK) for folder in path.split(":"))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


def _reset_signals() -> None:
    for number in (signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _words(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
