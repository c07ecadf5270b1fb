"""PostgreSQL from a wheel, run as our own direct child (a daemon could not be restarted after a kill)."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg
from psycopg import sql

from skerry.db.datafolder import prepare_data, refuse_live
from skerry.db.errors import DataFolderError, EmbeddedPostgresError
from skerry.db.osuser import OsUser, current_user, ensure_system_user, may
from skerry.db.parentdeath import die_with_parent
from skerry.db.pgbinaries import Binaries, usable_binaries

__all__ = ["DataFolderError", "EmbeddedPostgres", "EmbeddedPostgresError"]

USER: Final = "skerry_pg"
GROUP: Final = "skerry"
ROLE: Final = "skerry"
DATABASE: Final = "skerry"

_SOCKET_PATH_MAX = 100  # bytes; the kernel's limit is 107 with the terminating zero
_SOCKET_NAME = ".s.PGSQL.5432"
_LOG_MAX_BYTES = 8 * 1024 * 1024
_ORPHAN_SECONDS = 10.0
_POLL_SECONDS = 0.02

_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0770",
    "shared_buffers": "256MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}
# What is committed still reaches the kernel, and so survives the death of the server.
_NOT_DURABLE: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One server on one data folder, reached through a socket in `sockets` only.

    Run by root, the server is an unprivileged user's (`skerry_pg`), members of group `skerry` may connect as the
    application's role, and only root and `skerry_pg` as superuser. Where that user cannot reach the wheel's files they
    are copied below `binaries_dir`. `log` is the server's log file; it is turned over at 8 MiB, one old one is kept.
    `durable=False` is for tests: a power cut may then lose all.
    """

    def __init__(
        self,
        data: Path,
        sockets: Path,
        *,
        log: Path,
        binaries_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
    ) -> None:
        self.data = data.resolve()
        self.sockets = sockets.absolute()
        self.log = log
        self._binaries_dir = binaries_dir
        self._settings = {**_SETTINGS, **({} if durable else _NOT_DURABLE), **(settings or {})}
        self._durable = durable
        self._child: subprocess.Popen[bytes] | None = None
        self._log_begin = 0
        if len(os.fsencode(self.sockets / _SOCKET_NAME)) > _SOCKET_PATH_MAX:
            raise EmbeddedPostgresError(
                f"the path of the database's socket, {self.sockets / _SOCKET_NAME}, is longer than {_SOCKET_PATH_MAX} "
                "bytes: choose a shorter SKERRY_HOME"
            )

    @property
    def pid(self) -> int | None:
        """The server's process id; None where it was not started."""
        return self._child.pid if self._child else None

    def url(self, database: str = DATABASE, role: str = ROLE) -> str:
        return f"postgresql://{role}@/{database}?host={quote(str(self.sockets), safe='/')}"

    def start(self, timeout: float = 60.0) -> None:
        """Start the server and wait until it answers; the first time, make its data folder and the application's
        database. Must be called from the main thread: the server dies with the thread that started it.

        Raises DataFolderError where the folder is in use or not fit, EmbeddedPostgresError where it will not run.
        """
        deadline = time.monotonic() + timeout
        self.spawn()
        self.await_ready(deadline - time.monotonic())

    def restart(self, timeout: float = 60.0) -> None:
        """Start again after the server died, however it died."""
        self.wait()
        self.start(timeout)

    def spawn(self) -> None:
        """First half of `start`, quick but for the first time: the process is begun."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the database must be started from the main thread")
        if self._child is not None and self._child.poll() is None:
            raise RuntimeError("the database is running already")
        user = self._user()
        binaries = usable_binaries(user, self._binaries_dir)
        refuse_live(self.data)
        prepare_data(self.data, binaries, user, durable=self._durable)
        self._prepare_sockets(user)
        self._launch(binaries, user)

    def prepare_aside(self) -> int:
        """Make the data folder in a process of its own, whose id is returned. What goes wrong there `spawn` meets
        again, and says."""
        pid = os.fork()
        if pid:
            return pid
        try:
            user = self._user()
            refuse_live(self.data)
            prepare_data(self.data, usable_binaries(user, self._binaries_dir), user, durable=self._durable)
        finally:
            os._exit(0)

    def await_ready(self, timeout: float = 60.0) -> None:
        """Second half of `start`: returns when the application can connect."""
        deadline = time.monotonic() + timeout
        orphans_until = time.monotonic() + min(timeout, _ORPHAN_SECONDS)
        while True:
            try:
                with psycopg.connect(self.url("postgres", "postgres"), autocommit=True, connect_timeout=1) as admin:
                    _ensure_application(admin)
                return
            except psycopg.OperationalError as error:
                failure = error
            if self._child is None or self._child.poll() is not None:
                # After kill -9 the old server's backends hold its shared memory for a moment.
                if time.monotonic() > orphans_until or not self._blocked_by_orphans():
                    raise EmbeddedPostgresError(f"the database does not start: {self._last_words()}")
                time.sleep(_POLL_SECONDS * 5)
                user = self._user()
                self._launch(usable_binaries(user, self._binaries_dir), user)
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"the database did not answer within {timeout:.0f} s: {failure}")
            time.sleep(_POLL_SECONDS)

    def poll(self) -> int | None:
        """The exit status if the server has ended, else None. Also turns over the log; call it now and then."""
        self._rotate_log()
        return None if self._child is None else self._child.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the server's end. Raises subprocess.TimeoutExpired."""
        return None if self._child is None else self._child.wait(timeout)

    def stop(self, timeout: float = 20.0) -> None:
        """End the server: open transactions are rolled back, what is committed is written."""
        if self._child is None:
            return
        for how, patience in ((signal.SIGINT, timeout), (signal.SIGQUIT, 5.0), (signal.SIGKILL, None)):
            if self._child.poll() is not None:
                break
            self._child.send_signal(how)
            try:
                self._child.wait(patience)
            except subprocess.TimeoutExpired:
                continue

    def _user(self) -> OsUser:
        try:
            return ensure_system_user(USER, GROUP) if os.geteuid() == 0 else current_user()
        except LookupError as error:
            raise EmbeddedPostgresError(str(error)) from error

    def _prepare_sockets(self, user: OsUser) -> None:
        if not self.sockets.exists():
            self.sockets.mkdir(parents=True)
            self.sockets.chmod(0o750 if user.groups else 0o700)
            if user.groups:
                os.chown(self.sockets, user.uid, user.groups[0])
        if not may(user, "w", self.sockets):
            raise EmbeddedPostgresError(f"user {user.name} cannot write to {self.sockets}, the folder of its socket")

    def _launch(self, binaries: Binaries, user: OsUser) -> None:
        settings = {**self._settings, "unix_socket_directories": f'"{self.sockets}"'}
        if user.groups:
            settings["unix_socket_group"] = GROUP
        command: list[str | Path] = [binaries.program("postgres"), "-D", self.data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_begin = log.tell()
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                env={"LANG": "C", "PATH": os.defpath},
                start_new_session=True,  # Ctrl-C is for us; we end the database last
                preexec_fn=die_with_parent(signal.SIGINT),
                **user.popen_arguments(),
            )

    def _blocked_by_orphans(self) -> bool:
        words = self._last_words(lines=6)
        return "is still in use" in words or "already exists" in words

    def _last_words(self, lines: int = 3) -> str:
        """The end of what the server that was started last has logged."""
        try:
            said = self.log.read_bytes()[self._log_begin :].decode(errors="replace")
            return " / ".join(line.strip() for line in said.splitlines()[-lines:])
        except OSError:
            return f"see {self.log}"

    def _rotate_log(self) -> None:
        try:
            if self.log.stat().st_size <= _LOG_MAX_BYTES:
                return
            # Copied, then cut: the server holds the file open for appending and goes on at its new end.
            self.log.with_name(f"{self.log.name}.1").write_bytes(self.log.read_bytes())
            os.truncate(self.log, 0)
        except OSError:
            return  # a full disk shows elsewhere; the log is not worth an outage


def _ensure_application(admin: psycopg.Connection[Any]) -> None:
    """The application's role, which is not a superuser, and its database."""
    if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
    if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(ROLE)))
