"""The whole node, handed to a Unix user made for the tenant, and wiped afterwards. No root folder, network or users
of its own: nothing else may run on the node meanwhile, and its network is the fabric's adapter's business (VLAN,
P_Key)."""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from skerry.compute.instances.host import boot, devices, linux, relay, tools
from skerry.compute.instances.host.child import Stage
from skerry.compute.instances.host.console import Console, pump
from skerry.compute.instances.host.devices import DeviceNode
from skerry.compute.instances.host.drivers import users
from skerry.compute.instances.host.drivers.base import RECORD, CannotStart, Ground
from skerry.compute.instances.host.keys import as_file
from skerry.compute.instances.host.limits import NoLimits
from skerry.compute.instances.host.locks import Locks
from skerry.compute.instances.host.peers import hosts
from skerry.compute.instances.host.plan import READY, Outer, StagePlan, Tree
from skerry.compute.instances.host.spec import START_SCRIPT_LOG, DriverName, InstanceSpec
from skerry.compute.instances.host.userdata import BadStartScript, script_of

_READY_SECONDS: Final = 30.0
_LAST_SECONDS: Final = 3.0
_CLEAR_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.02
_NET: Final = Path("/sys/class/net")


class Record(msgspec.Struct, frozen=True):
    """What has to be undone, written before it is done. `devices`: path, owner, group, mode as they were."""

    user: str
    folders: list[str]
    devices: list[tuple[str, int, int, int]]


class WholeNodeDriver:
    """See the module."""

    name: ClassVar = DriverName.NODE

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._locks = Locks()

    def why_not(self, spec: InstanceSpec) -> str | None:
        if os.geteuid() != 0:
            return "the engine's agent on this node is not root"
        if spec.image is not None:
            return "a whole node has no images: leave `image` out"
        if spec.template is not None:
            return "a whole node has no templates: start a server yourself"
        others = [name for name in self.names() if name != spec.id and self._locks.held(name)]
        if others:
            return f"other instances are on this node: {', '.join(sorted(others))}"
        return None

    def boundary(self, spec: InstanceSpec) -> bool:
        return True

    def names(self) -> set[str]:
        folder = self._ground.state / "up"
        return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()

    async def up(self, spec: InstanceSpec) -> "WholeNode":
        await asyncio.to_thread(self.clear, spec.id)
        try:
            async with contextlib.AsyncExitStack() as undo:
                node = await self._up(spec, undo)
                undo.pop_all()
                return node
        except (NoLimits, BadStartScript, tools.NoTools, devices.NoSuchDevice) as error:
            raise CannotStart(str(error)) from error
        except (relay.NoPort, OSError) as error:
            raise CannotStart(str(error), final=False) from error

    def clear(self, name: str) -> None:
        folder = self._ground.folder(name)
        if not (folder / RECORD).exists():  # none of ours
            return
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            record = msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
            for path, owner, group, mode in record.devices:
                with contextlib.suppress(OSError):
                    os.chown(path, owner, group)
                    Path(path).chmod(mode)
            uid = users.uid_of(record.user)
            if uid is not None:
                users.remove(record.user, uid)
            for made in record.folders:
                with contextlib.suppress(OSError):
                    Path(made).rmdir()
            shutil.rmtree(_home(record.user), ignore_errors=True)
        groups = self._ground.groups
        deadline = time.monotonic() + _CLEAR_SECONDS
        while not groups.remove(name) and time.monotonic() < deadline:
            groups.kill(name)
            time.sleep(_PAUSE_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)

    async def _up(self, spec: InstanceSpec, undo: contextlib.AsyncExitStack) -> "WholeNode":
        options, programs = spec.options, tools.of_this_machine()
        script = None if spec.start_script is None else script_of(spec.start_script)
        nodes = devices.nodes_of(self._ground.devices, self._ground.dev)
        user = _user(spec.id)
        undo.callback(self.clear, spec.id)
        folder = _make_folder(self._ground, spec)
        _write_record(folder, _record(spec, user, nodes))
        uid = users.make(user, str(_home(user)))
        home = _home(user)
        home.mkdir(mode=0o700, exist_ok=True)
        os.chown(home, uid, uid)
        if spec.home is not None:
            await asyncio.to_thread(users.own, Path(spec.home.path), uid)
        for node in nodes:
            os.chown(node.source, uid, uid)
            Path(node.source).chmod(0o660)
        groups = self._ground.groups.create(spec.id, spec.limits, [])
        listening = relay.claim(options.listen, options.ports, options.ports[0])
        port: int = listening.getsockname()[1]
        env = boot.environment(spec, {}) if spec.cluster is not None else {}
        env = {name: value for name, value in env.items() if "proxy" not in name.lower()} or {
            "SKERRY_INSTANCE": spec.id
        }
        (folder / "boot/sshd_config").write_text(
            boot.sshd_config(spec, env, user=user, port=port, listen=options.listen)
        )
        (folder / "etc/hosts").write_text(Path("/etc/hosts").read_text() + hosts(spec, options.listen, ""))
        console = Console(f"skerry-start-{secrets.token_hex(8)}", has_script=script is not None)
        plan = StagePlan(
            name=spec.id,
            hostname=spec.hostname,
            root="/",
            outer=_mounts(spec, folder, home),
            inner=[],
            command=[*programs.sshd, "-D", "-e", "-f", str(folder / "boot/sshd_config")],
            env=[f"PATH={boot.PATH}"],
            groups=groups,
            whole_node=True,
        )
        stage = await Stage.begin(plan, console)
        undo.push_async_callback(stage.end)
        await stage.expect(READY, console)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        listening.close()  # sshd takes it over
        stage.go()
        await stage.started(console)
        whole = WholeNode(self, spec, self._ground, stage, console, port, user, uid)
        await whole.wait_for_banner()
        if script is not None:
            whole.run_script(script, programs)
        return whole


class WholeNode:
    """A node that is handed over."""

    gateway: ClassVar = ""

    def __init__(
        self,
        driver: WholeNodeDriver,
        spec: InstanceSpec,
        ground: Ground,
        stage: Stage,
        console: Console,
        port: int,
        user: str,
        uid: int,
    ) -> None:
        self.console = console
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.port = port
        self.user = user
        self.address = spec.options.address or spec.options.listen
        self.etc = ground.folder(spec.id) / "etc"
        self._driver = driver
        self._spec = spec
        self._stage = stage
        self._uid = uid
        self._sent = _bytes_sent()
        self._closed = False
        self._watch: asyncio.Task[None] | None = None
        stage.ended.add_done_callback(self._on_end)

    def egress_bytes(self) -> int:
        """What the node's own interfaces have sent since it was handed over."""
        return max(_bytes_sent() - self._sent, 0)

    async def say(self, words: str) -> None:
        for path in users.terminals(self._uid):
            with contextlib.suppress(OSError):
                terminal = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
                with os.fdopen(terminal, "wb", buffering=0) as file:
                    file.write(f"\r\n*** {words}\r\n".encode())

    async def down(self, words: str) -> None:
        if self._closed:
            return
        self._closed = True
        await self.say(words)
        if users.terminals(self._uid):
            await asyncio.sleep(self._spec.options.grace_seconds)
        users.signal_all(self._uid, signal.SIGTERM)
        deadline = time.monotonic() + _LAST_SECONDS
        while users.processes(self._uid) and time.monotonic() < deadline:
            await asyncio.sleep(_PAUSE_SECONDS)
        await self._stage.end()
        await asyncio.to_thread(self._driver.clear, self._spec.id)
        if self._watch is not None:
            await self._watch

    async def wait_for_banner(self) -> None:
        """Raises CannotStart."""
        deadline = time.monotonic() + _READY_SECONDS
        while not await asyncio.to_thread(_banner, self._spec.options.listen, self.port):
            if self._stage.ended.done() or time.monotonic() > deadline:
                words = list(self.console.last_words)
                raise CannotStart(words[-1] if words else "its SSH server did not answer", final=False)
            await asyncio.sleep(_PAUSE_SECONDS)

    def run_script(self, script: str, programs: boot.Tools) -> None:
        """As the tenant's user: a whole node's root stays the operator's."""
        path = self.etc.parent / "boot/start"
        path.write_text(script)
        path.chmod(0o700)
        os.chown(path, self._uid, self._uid)
        home = str(_home(self.user))
        log = Path(home, Path(START_SCRIPT_LOG).name)
        line = f"cd {home}; ({path}; printf '\\n%s %s\\n' {self.console.mark} $?) 2>&1 | tee {log}"
        become = [*programs.setpriv, "--reuid", str(self._uid), "--regid", str(self._uid), "--clear-groups"]
        process = subprocess.Popen(
            ["nsenter", f"--mount=/proc/{self._stage.pid}/ns/mnt", *become, "/bin/sh", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={"PATH": boot.PATH, "HOME": home, "LANG": "C.UTF-8", "USER": self.user},
            start_new_session=True,
        )
        assert process.stdout is not None
        output = os.dup(process.stdout.fileno())
        process.stdout.close()
        self._watch = asyncio.ensure_future(self._follow(process, output))

    async def _follow(self, script: subprocess.Popen[bytes], output: int) -> None:
        await pump(output, self.console.script_line)
        await asyncio.to_thread(script.wait)

    def _on_end(self, code: asyncio.Future[int]) -> None:
        if not self.ended.done():
            self.ended.set_result(f"the SSH server of the node ended (exit code {code.result()})")


def _mounts(spec: InstanceSpec, folder: Path, home: Path) -> list[Outer]:
    steps: list[Outer] = [
        Tree(str(folder / "etc"), boot.ETC, linux.ATTR_RDONLY | linux.ATTR_NOSUID | linux.ATTR_NODEV),
        Tree(str(folder / "etc/hosts"), "/etc/hosts", linux.ATTR_RDONLY, file=True),
    ]
    if spec.home is not None:
        steps.append(Tree(spec.home.path, str(home), linux.ATTR_NOSUID | linux.ATTR_NODEV))
    for volume in spec.volumes:
        flags = linux.ATTR_NOSUID | linux.ATTR_NODEV | (linux.ATTR_RDONLY if volume.read_only else 0)
        steps.append(Tree(volume.path, volume.target, flags))
    return steps


def _make_folder(ground: Ground, spec: InstanceSpec) -> Path:
    folder = ground.folder(spec.id)
    for path in (folder.parent.parent, folder.parent, folder, folder / "boot", folder / "etc"):
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
    (folder / "etc").chmod(0o755)
    keys = "".join(f"{key.strip()}\n" for key in spec.authorized_keys)
    for name, text, mode in (
        ("ssh_host_ed25519_key", as_file(spec.host_key), 0o600), ("authorized_keys", keys, 0o644),
        ("known_hosts", "", 0o644),
    ):  # fmt: skip
        (folder / "etc" / name).touch(mode=mode)
        (folder / "etc" / name).write_text(text)
    return folder


def _record(spec: InstanceSpec, user: str, nodes: list[DeviceNode]) -> Record:
    made = [volume.target for volume in spec.volumes if not Path(volume.target).exists()]
    made += [] if Path(boot.ETC).exists() else [boot.ETC]
    before = []
    for node in nodes:
        info = Path(node.source).stat()
        before.append((node.source, info.st_uid, info.st_gid, info.st_mode & 0o7777))
    return Record(user, made, before)


def _write_record(folder: Path, record: Record) -> None:
    path = folder / RECORD
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(record))


def _user(name: str) -> str:
    return "skerry-" + hashlib.sha256(name.encode()).hexdigest()[:12]


def _home(user: str) -> Path:
    return Path("/home") / user


def _banner(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _bytes_sent() -> int:
    total = 0
    for interface in _NET.iterdir() if _NET.is_dir() else ():
        if (interface / "device").exists():  # hardware, not a bridge or a veth
            with contextlib.suppress(OSError, ValueError):
                total += int((interface / "statistics/tx_bytes").read_text())
    return total
