"""A PostgreSQL data folder: made once, and checked before a server is started on it."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil

from skerry.db.errors import DataFolderError, EmbeddedPostgresError
from skerry.db.osuser import OsUser, current_user, may
from skerry.db.pgbinaries import Binaries

LOCK = "postmaster.pid"

_ENDING_SECONDS = 15.0
_POLL_SECONDS = 0.05


def prepare_data(data: Path, binaries: Binaries, user: OsUser, *, durable: bool) -> None:
    """Make the folder where it is missing, and set who may connect. Raises DataFolderError."""
    if (data / "PG_VERSION").exists():
        _require_version(data, binaries.major_version())
    elif data.exists() and any(data.iterdir()):
        raise DataFolderError(f"{data} is not empty and holds no database: choose another SKERRY_HOME")
    else:
        _initialise(data, binaries, user, durable=durable)
    if not may(user, "w", data):
        raise DataFolderError(f"user {user.name} cannot write to {data}: a folder above it is closed")
    _write_access_rules(data, user)


def refuse_live(data: Path) -> None:
    """Raises DataFolderError where a server runs on the folder. One that is just ending is waited for; the traces of
    one that died are no obstacle."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while (pid := _live_server(data)) is not None:
        if time.monotonic() > deadline or not _is_ending(data, pid):
            raise DataFolderError(f"the data folder {data} is in use by another PostgreSQL (process {pid})")
        time.sleep(_POLL_SECONDS)
    _remove_misleading_lock(data)


def _require_version(data: Path, ours: str) -> None:
    theirs = (data / "PG_VERSION").read_text().strip()
    if theirs != ours:
        raise DataFolderError(
            f"the data folder {data} is of PostgreSQL {theirs}, this is PostgreSQL {ours}: "
            "dump it with the old version and load it into the new, or use the old one through SKERRY_DATABASE_URL"
        )


def _initialise(data: Path, binaries: Binaries, user: OsUser, *, durable: bool) -> None:
    """Run initdb beside the folder and rename: a folder with a PG_VERSION is whole."""
    data.parent.mkdir(parents=True, exist_ok=True)
    # A mount cannot be renamed over, so it is filled where it is.
    work = data if data.is_mount() else data.with_name(f"{data.name}.new")
    if work != data and work.exists():
        shutil.rmtree(work)
    work.mkdir(exist_ok=True)
    work.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(work, user.uid, user.gid)
    if not may(user, "w", work):
        raise DataFolderError(f"user {user.name} cannot reach {data}: a folder above it is closed")
    command = [str(binaries.program("initdb")), "-D", str(work), "-U", "postgres", "-A", "peer", "--encoding=UTF8",
               "--locale-provider=builtin", "--locale=C.UTF-8", *([] if durable else ["--no-sync"])]  # fmt: skip
    # Where the C library has no C.UTF-8 the builtin provider still has; its own categories stay with C.
    command += [f"--lc-{category}=C" for category in ("collate", "ctype", "messages", "monetary", "numeric", "time")]
    env = {"LANG": "C", "PATH": os.defpath, "TZ": "UTC"}
    done = subprocess.run(
        command, cwd=work, env=env, capture_output=True, text=True, check=False, **user.popen_arguments()
    )
    if done.returncode != 0:
        shutil.rmtree(work, ignore_errors=True)
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise EmbeddedPostgresError(f"initdb failed: {' '.join(last)}")
    if work != data:
        work.rename(data)


def _write_access_rules(data: Path, user: OsUser) -> None:
    """Whoever can open the socket is the application; only we and the server's own user are superuser."""
    admins = {user.name, current_user().name}
    _write(data / "pg_hba.conf", "local all postgres peer map=admin\nlocal all skerry trust\n", user)
    _write(data / "pg_ident.conf", "".join(f'admin "{name}" postgres\n' for name in sorted(admins)), user)


def _write(path: Path, content: str, user: OsUser) -> None:
    """Put a new file in the place of the old. The folder is its user's and we may be root, so nothing that lies there
    is written through: it might be a link."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        if os.geteuid() == 0:
            os.fchown(file.fileno(), user.uid, user.gid)
    draft.replace(path)


def _lock_pid(data: Path) -> int | None:
    """The process id in the lock file; None where there is none to read."""
    try:
        return int((data / LOCK).read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _live_server(data: Path) -> int | None:
    """The process id in the lock file, if it is a PostgreSQL that runs. Ids are used again, hence the look at it."""
    pid = _lock_pid(data)
    try:
        process = psutil.Process(pid) if pid is not None and pid > 0 else None
        if process is None or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return pid if process.name() in ("postgres", "postmaster") and str(data) in process.cmdline() else None
    except psutil.NoSuchProcess:
        return None


def _remove_misleading_lock(data: Path) -> None:
    """PostgreSQL itself passes over the lock of a dead process, but not over one that cannot be read (a power cut), nor
    over one whose process id is some other program's by now. Shared memory in use it finds without the lock too."""
    pid = _lock_pid(data)
    if pid is None or psutil.pid_exists(abs(pid)):
        (data / LOCK).unlink(missing_ok=True)


def _is_ending(data: Path, pid: int) -> bool:
    """Its parent is gone, so it has been told to stop; or it says so itself (line 8 of its lock file)."""
    try:
        lines = (data / LOCK).read_text().splitlines()
        return psutil.Process(pid).ppid() == 1 or (len(lines) > 7 and lines[7].strip() == "stopping")
    except (OSError, psutil.NoSuchProcess):
        return True
