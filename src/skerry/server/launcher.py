"""`skerry up`: opens port and folders, starts the database and brings it up to date, starts roles and keeps them up."""

import fcntl
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from skerry import __version__
from skerry.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from skerry.runtime.secrets import BadKeyring, Keyring
from skerry.runtime.settings import BadSetting, Settings
from skerry.server import role as roles
from skerry.server.certificate import TLS_FD, BadCertificate, in_memory, read_pem
from skerry.server.forking import World, fork, load_common
from skerry.server.handover import Handover
from skerry.server.layout import BadLayout, Layout
from skerry.server.roles import KEEPS_ROOT, PARENT, ROLES_HERE, VIRTUAL_NODES
from skerry.server.status import STATUS_FILE, write_status
from skerry.server.supervisor import Process, Supervisor

LOCK_FILE = "launcher.lock"
BACKLOG = 4096
DATABASE_POLL_SECONDS = 0.2
ASKED_SECONDS = 0.3
"""Whoever asks for the status holds the lock for a moment, too."""
IDLE_SECONDS = 1.0
MARGIN_SECONDS = 4.0
"""A gateway needs so much longer than its drain to write down and close everything."""
ALL_ROLES = ("agent", "server", "controller", "gateway", "shipper")
STOP_ORDER = ("gateway", "shipper", "controller", "server", "agent")

Say = Callable[[str, str], None]
"""Tells the user about a stage: its name, and words about it."""


class CannotStart(Exception):
    """One clear line for the user; the exit status is 2."""


@dataclass(slots=True)
class Options:
    roles: tuple[str, ...] = ALL_ROLES
    engine: str = "embedded"
    virtual_nodes: int = 1


@dataclass(slots=True, eq=False)
class Launcher:
    """One run of the cloud on this machine."""

    settings: Settings
    options: Options
    say: Say
    _stopping: bool = False
    _database: EmbeddedPostgres | None = None
    _url: str = ""
    _layout: Layout | None = None
    _lock: int = -1
    _gate: tuple[int, int] = (-1, -1)
    _lifeline: tuple[int, int] = (-1, -1)
    _sockets: dict[str, socket.socket] = field(default_factory=dict)
    _supervisor: Supervisor | None = None
    _wakeup: tuple[int, int] = (-1, -1)
    _handover: Handover | None = None
    _news: tuple[int, int] = (-1, -1)
    _certificate: int = -1
    _terminal: bool = False
    _reloading: bool = False

    def run(self) -> None:
        """Start everything and stay until SIGTERM or SIGINT. Raises CannotStart."""
        try:
            self._open()
            self._choose_database()
            self._begin_database()
            self._start_roles()
            self._start_database()
            self._open_gate()
            self._stay()
        except (BadLayout, EmbeddedPostgresError, BadKeyring, BadSetting, BadCertificate) as error:
            raise CannotStart(str(error)) from error
        finally:
            self._close()

    # --- start
    def _open(self) -> None:
        self.say("prepare", "folders and port")
        self._layout = Layout.prepare(self.settings.home)
        self._lock = _lock_home(self.settings.home)
        Keyring.load(self.settings.home)
        if "gateway" in self.options.roles:
            self._certificate = self._read_certificate()
            self._sockets["gateway"] = _listen(self.settings.host, self.settings.port)
            self._sockets["internal"] = _listen_unix(self._layout, "gateway.sock")
        self._lifeline = os.pipe()
        self._wakeup = os.pipe()
        for descriptor in self._wakeup:
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wakeup[1])
        self._terminal = os.isatty(0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._supervisor = Supervisor(self._layout.state / "logs", self._write_status)
        self._supervisor.watch(self._wakeup[0])
        if "gateway" in self.options.roles:
            self._news = os.pipe()
            drain = self.settings.answer_timeout_seconds
            self._handover = Handover(self._supervisor, lambda: self._process("gateway"), _note, drain)
            self._supervisor.watch(self._news[0], self._handover.heard)

    def _read_certificate(self) -> int:
        """A descriptor of certificate and key; -1 where the port speaks plain HTTP. Raises BadCertificate."""
        if self.settings.tls_cert is None or self.settings.tls_key is None:
            return -1
        return in_memory(read_pem(self.settings.tls_cert, self.settings.tls_key))

    def _choose_database(self) -> None:
        assert self._layout is not None
        layout = self._layout
        if self.settings.database_url:
            self._url = self.settings.database_url
        else:
            log = layout.state / "logs" / "database.log"
            self._database = EmbeddedPostgres(layout.postgres, layout.sockets, log=log, binaries_dir=layout.programs)
            self._url = self._database.url()

    def _begin_database(self) -> None:
        """It comes up while we load what the roles share; its data folder, the first time, is made meanwhile."""
        if self._database is None:
            load_common(self.settings.home)
            return
        self.say("database", "starting PostgreSQL")
        making = self._database.prepare_aside()
        load_common(self.settings.home)
        os.waitpid(making, 0)
        self._database.spawn()

    def _start_database(self) -> None:
        if self._database is not None:
            self._database.await_ready()
        self.say("migrate", "bringing the database up to date")
        self._bootstrap()

    def _bootstrap(self) -> None:
        """Migrations and the first start's things, in a process of its own: nothing of them stays with the launcher."""
        reading, writing = os.pipe()
        child = fork(_first_start, World("bootstrap", self._process("bootstrap").environment, writing))
        os.close(writing)
        with open(reading, encoding="utf-8", errors="replace") as heard:
            lines = heard.read().strip().splitlines()
        if child.wait():
            raise CannotStart(lines[-1] if lines else "the first start failed")
        for line in lines:
            if line.startswith("skerry: "):
                self.say("note", line.removeprefix("skerry: "))

    def _start_roles(self) -> None:
        """Begun before the database answers: they load what is their own meanwhile, and then wait at the gate."""
        assert self._supervisor is not None and self._layout is not None
        self._gate = os.pipe()
        if "server" in self.options.roles:
            self._sockets["server"] = self._listen_for_gateways(self._layout)
        for role in self.options.roles:
            process = self._process(role)
            descriptors, environment = process.descriptors, process.environment
            process.descriptors = (*descriptors, self._gate[0])
            process.environment = {**environment, roles.GATE_FD: str(self._gate[0])}
            self._supervisor.start(process)
            # The next process of this role, should it die, need not wait.
            process.descriptors, process.environment = descriptors, environment

    def _listen_for_gateways(self, layout: Layout) -> socket.socket:
        """The control API's own address: a port where `SKERRY_SERVER_URL` names one, else the Unix socket."""
        url = urlsplit(self.settings.server_url)
        if url.scheme == "http" and url.hostname and url.port:
            return _listen(url.hostname, url.port)
        return _listen_unix(layout, "server.sock")

    def _open_gate(self) -> None:
        for descriptor in self._gate:
            os.close(descriptor)
        self._gate = (-1, -1)
        self.say("started", "waiting until the first model is ready")

    def _process(self, role: str) -> Process:
        assert self._layout is not None
        environment = {
            **{name: value for name, value in os.environ.items() if name.startswith(("SKERRY_", "LC_", "PYTHON"))},
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "HOME": str(self._layout.state),
            "SKERRY_HOME": str(self.settings.home),
            "SKERRY_STATE": str(self._layout.state),
            "SKERRY_DATABASE_URL": self._url,
            "SKERRY_HOST": self.settings.host,
            "SKERRY_PORT": str(self.settings.port),
            "SKERRY_TLS_CERT": str(self.settings.tls_cert or ""),
            "SKERRY_TLS_KEY": str(self.settings.tls_key or ""),
            "SKERRY_COMPUTE_ENGINE": self.settings.compute_engine,
            "SKERRY_SLURM_CONF": str(self.settings.slurm_conf or ""),
            PARENT: str(os.getpid()),
            ROLES_HERE: ",".join(self.options.roles),
            VIRTUAL_NODES: str(self.options.virtual_nodes),
        }
        descriptors: list[int] = []
        sockets = {name: opened.fileno() for name, opened in self._sockets.items()}
        for name, variable, descriptor in (
            ("gateway", roles.GATEWAY_FD, sockets.get("gateway", -1)),
            ("gateway", roles.INTERNAL_FD, sockets.get("internal", -1)),
            ("gateway", roles.NEWS_FD, self._news[1]),
            ("gateway", TLS_FD, self._certificate),
            ("server", roles.SERVER_FD, sockets.get("server", -1)),
            ("agent", roles.LIFELINE_FD, self._lifeline[0]),
        ):
            if role == name and descriptor >= 0:
                descriptors.append(descriptor)
                environment[variable] = str(descriptor)
        process = Process(role, environment, tuple(descriptors), fresh=role in KEEPS_ROOT)
        if role == "gateway":
            process.grace_seconds = self.settings.drain_seconds + MARGIN_SECONDS
        return process

    # --- stay
    def _stay(self) -> None:
        assert self._supervisor is not None
        shown = 0.0
        while not self._stopping:
            self._keep_database()
            self._supervisor.poll()
            if self._handover is not None:
                self._reload(self._handover)
                self._handover.step()
            if time.monotonic() - shown > IDLE_SECONDS:
                shown = time.monotonic()
                self._write_status()
            self._supervisor.pause(DATABASE_POLL_SECONDS if self._database else IDLE_SECONDS)

    def _keep_database(self) -> None:
        if self._database is None or self._database.poll() is None:
            return
        self.say("database", "PostgreSQL ended, starting it again")
        self._write_status()
        try:
            self._database.restart()
        except EmbeddedPostgresError as error:
            self.say("database", f"it does not start: {error}")
            time.sleep(1.0)
        self._write_status()

    def _reload(self, handover: Handover) -> None:
        """After SIGHUP: the certificate anew, and a gateway that has it."""
        if not self._reloading:
            return
        self._reloading = False
        try:
            fresh = self._read_certificate()
        except BadCertificate as error:
            handover.fail(str(error))
            return
        if fresh >= 0:
            # Under the old number, which the processes know that are started from now on.
            os.dup2(fresh, self._certificate, inheritable=False)
            os.close(fresh)
        handover.begin()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and not (self._terminal and not os.isatty(0)):
            self._reloading = True
        else:
            self._stopping = True  # SIGHUP of a terminal that was closed, too

    def _write_status(self) -> None:
        if self._layout is None or self._supervisor is None:
            return
        rows: list[dict[str, object]] = [{"role": "launcher", "pid": os.getpid(), "status": "running"}]
        if self._database is not None:
            alive = self._database.poll() is None
            rows.append({"role": "database", "pid": self._database.pid, "status": "running" if alive else "restarting"})
        for process in self._supervisor.processes:
            row: dict[str, object] = {"role": process.role, "pid": process.pid, "status": process.status}
            if process.reason:
                row["reason"] = process.reason
            rows.append(row)
        about: dict[str, object] = {"url": self.settings.url, "local_url": self.settings.local_url}
        if self.settings.tls_cert is not None:
            about["certificate"] = str(self.settings.tls_cert)
        if self._handover is not None:
            about["reload"] = asdict(self._handover.outcome)
        write_status(self._layout.state, {**about, "version": __version__, "processes": rows})

    # --- end
    def _close(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        if self._supervisor is not None:
            for role in STOP_ORDER:
                self._supervisor.stop(role)
        if self._database is not None:
            self._database.stop()
        if self._layout is not None and self._lock >= 0:
            (self._layout.state / "run" / STATUS_FILE).unlink(missing_ok=True)
        for descriptor in (*self._gate, *self._lifeline, *self._news, self._certificate, self._lock):
            if descriptor >= 0:
                os.close(descriptor)


def _first_start() -> int:
    module = importlib.import_module("skerry.server.bootstrap")
    status: int = module.bootstrap(Settings.from_env())
    return status


def _lock_home(home: Path) -> int:
    """Raises CannotStart where another launcher has it."""
    try:
        descriptor = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"{home} cannot be used: {error}") from error
    if not _wait_for(lambda: _try_lock(descriptor), ASKED_SECONDS):
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise CannotStart(
            f"{home} is in use by a running Skerry (process {holder or 'unknown'}): `skerry down` ends it, and another "
            "SKERRY_HOME can run beside it"
        )
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _listen(host: str, port: int) -> socket.socket:
    """Raises CannotStart where the port is taken or not ours to take."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        raise CannotStart(
            f"port {port} on {host} cannot be used ({error.strerror or error}): choose another with --port"
        ) from error
    return opened


def _listen_unix(layout: Layout, name: str) -> socket.socket:
    path = layout.state / "run" / name
    path.unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened.bind(str(path))
    if layout.user is not None:
        os.chown(path, layout.user.uid, layout.user.groups[0])
    path.chmod(0o660)
    opened.listen(BACKLOG)
    return opened


def say_json(descriptor: int) -> Say:
    """For a launcher in the background: stages go to the one that waits, as JSON lines."""

    def say(stage: str, words: str) -> None:
        line = json.dumps({"stage": stage, "text": words, "at": time.time()}) + "\n"
        try:
            os.write(descriptor, line.encode())
        except OSError:
            return  # whoever waited has gone

    return say


def _note(words: str) -> None:
    """What happens after the start: on the terminal, or in `launcher.log`."""
    say_plain("reload", words)


def say_plain(stage: str, words: str) -> None:
    print(f"skerry: {words}", file=sys.stderr, flush=True)  # noqa: T201
