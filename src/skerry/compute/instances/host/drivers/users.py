"""Unix users of tenants on a whole node: made, emptied of processes, and removed with all they left outside their
home."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from skerry.compute.instances.host.drivers.base import CannotStart

_SHARED_FOLDERS: Final = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")  # noqa: S108 - to be wiped
_OWN_FILES: Final = ("/var/mail/{}", "/var/spool/cron/crontabs/{}", "/var/spool/cron/{}", "/var/lib/systemd/linger/{}")
_NAME_IS_TAKEN: Final = 9
_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.02
_SYSV: Final = (("msg", "-q"), ("sem", "-s"), ("shm", "-m"))


def make(name: str, home: str) -> int:
    """A user who logs in by key alone; its uid. There already: the same. Raises CannotStart."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        pass
    # `*` as password: none fits, and sshd does not take the account for a locked one.
    options = ["--no-create-home", "--home-dir", home, "--shell", "/bin/bash", "--password", "*", "--no-log-init"]
    try:
        done = _run(["useradd", *options, "--user-group", name])
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotStart(f"the tenant's user cannot be made: {error}") from error
    if done.returncode not in (0, _NAME_IS_TAKEN):
        raise CannotStart(f"the tenant's user cannot be made: {done.stderr.strip()}")
    return pwd.getpwnam(name).pw_uid


def uid_of(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def remove(name: str, uid: int) -> None:
    """Everything that is the user's and runs or lies about on the node; then the user."""
    end_processes(uid)
    _remove_ipc(uid)
    for folder in _SHARED_FOLDERS:
        for entry in _entries(Path(folder)):
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    _delete(entry)
    for pattern in _OWN_FILES:
        _delete(Path(pattern.format(name)))
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        _run(["userdel", name])


def processes(uid: int) -> list[int]:
    """Whose real or effective user it is."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, StopIteration):
            text = Path("/proc", entry, "status").read_text()
            line = next(line for line in text.splitlines() if line.startswith("Uid:"))
            dead = "\nState:\tZ" in text or "\nState:\tX" in text
            if str(uid) in line.split()[1:3] and not dead:
                found.append(int(entry))
    return found


def signal_all(uid: int, number: int) -> None:
    for pid in processes(uid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end_processes(uid: int) -> bool:
    """Kill until nothing is left; whoever forks is killed with the next round. False: something does not die."""
    deadline = time.monotonic() + _SECONDS
    while processes(uid):
        if time.monotonic() > deadline:
            return False
        signal_all(uid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)
    return True


def terminals(uid: int) -> list[Path]:
    return [entry for entry in _entries(Path("/dev/pts")) if entry.name.isdigit() and entry.stat().st_uid == uid]


def own(path: Path, uid: int) -> None:
    """A home from an earlier run may carry another number; links are not followed."""
    if path.stat().st_uid == uid:
        return
    os.chown(path, uid, uid)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                os.chown(Path(folder, name), uid, uid, follow_symlinks=False)


def _remove_ipc(uid: int) -> None:
    for kind, option in _SYSV:
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            header, *rows = Path("/proc/sysvipc", kind).read_text().splitlines()
            columns = header.split()
            for row in rows:
                fields = dict(zip(columns, row.split(), strict=False))
                if fields.get("uid") == str(uid) or fields.get("cuid") == str(uid):
                    _run(["ipcrm", option, fields[f"{kind}id"]])


def _entries(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from list(folder.iterdir())


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    return subprocess.run(arguments, capture_output=True, text=True, timeout=_SECONDS, check=False, env=env)
