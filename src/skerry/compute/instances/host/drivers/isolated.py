"""Instances with a root folder, a network and limits of their own: what the drivers netns and oci share.

The stage (stage.py) makes it all in namespaces that go with its processes. What a `kill -9` of the host program
leaves are empty control groups, an empty partition and a folder; `clear` removes them.
"""

import asyncio
import contextlib
import ipaddress
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from skerry.compute.fabric.base import FabricError
from skerry.compute.instances.host import boot, devices, relay, rootfs, tools
from skerry.compute.instances.host.boot import Boot
from skerry.compute.instances.host.child import Stage
from skerry.compute.instances.host.console import Console
from skerry.compute.instances.host.devices import DeviceNode
from skerry.compute.instances.host.drivers.base import RECORD, CannotStart, Ground
from skerry.compute.instances.host.images import find
from skerry.compute.instances.host.keys import as_file
from skerry.compute.instances.host.layers import BadImage
from skerry.compute.instances.host.limits import NoLimits
from skerry.compute.instances.host.live import Live
from skerry.compute.instances.host.peers import hosts
from skerry.compute.instances.host.plan import READY, StagePlan
from skerry.compute.instances.host.rootfs import Place
from skerry.compute.instances.host.spec import BadSpec, DriverName, InstanceSpec, Template
from skerry.compute.instances.host.userdata import BadStartScript, script_of

T = TypeVar("T")
_CLEAR_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.01
_FIRST_USER: Final = 1 << 28
"""Users of the node from here on are those of instances, 65,536 each, by the number of their port."""
_RANGES: Final = 1 << 15
_USERS: Final = 65_536
_REFUSALS: Final = (NoLimits, BadImage, BadStartScript, BadSpec, tools.NoTools, devices.NoSuchDevice)


class Isolated:
    """Base of both drivers."""

    name: ClassVar[DriverName]
    bare: ClassVar[bool]
    """The stage begins the first process itself, and makes /dev."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def why_not(self, spec: InstanceSpec) -> str | None:
        raise NotImplementedError

    def boundary(self, spec: InstanceSpec) -> bool:
        """Here: whether its users are other users on the node than they seem to be inside."""
        raise NotImplementedError

    def finished(self, plan: StagePlan, spec: InstanceSpec, nodes: Sequence[DeviceNode]) -> StagePlan:
        """The plan with what is this driver's own."""
        raise NotImplementedError

    async def up(self, spec: InstanceSpec) -> Live:
        self.clear(spec.id)
        try:
            async with contextlib.AsyncExitStack() as undo:
                live = await self._up(spec, undo)
                undo.pop_all()
                return live
        except _REFUSALS as error:
            raise CannotStart(str(error)) from error
        except (FabricError, relay.NoPort, OSError) as error:
            raise CannotStart(str(error), final=False) from error

    def names(self) -> set[str]:
        return set()

    def clear(self, name: str) -> None:
        if (self.ground.folder(name) / RECORD).exists():
            return
        groups = self.ground.groups
        deadline = time.monotonic() + _CLEAR_SECONDS
        while not groups.remove(name) and time.monotonic() < deadline:
            groups.kill(name)
            time.sleep(_PAUSE_SECONDS)
        shutil.rmtree(self.ground.folder(name), ignore_errors=True)

    async def _up(self, spec: InstanceSpec, undo: contextlib.AsyncExitStack) -> Live:
        options = spec.options
        allowed = [ipaddress.ip_network(network) for network in options.egress_allow]
        listening = relay.claim(options.listen, options.ports, _wanted_port(spec.id, options.ports))
        undo.callback(listening.close)
        undo.callback(self.clear, spec.id)
        first = _first_user(listening.getsockname()[1]) if self.boundary(spec) else 0
        plan, console = await _in_thread(lambda: self._plan(spec, first))
        stage = await Stage.begin(plan, console)
        undo.push_async_callback(stage.end)
        await stage.expect(READY, console)
        undo.callback(self.ground.fabric.detach, spec.partition, spec.id)
        attachment = await _in_thread(lambda: self.ground.fabric.attach(spec.partition, spec.id, stage.pid))
        assert attachment.uplink is not None
        (self.ground.folder(spec.id) / "etc/hosts").write_text(hosts(spec, attachment.ip, attachment.uplink.gateway))
        stage.go()
        first = await stage.started(console)
        live = Live(spec, self.ground, stage, attachment, first, console, lambda: self._wipe(spec))
        undo.push_async_callback(live.close)
        await live.open(listening, allowed)
        return live

    def _plan(self, spec: InstanceSpec, first: int) -> tuple[StagePlan, Console]:
        folder = self.ground.folder(spec.id)
        script = None if spec.start_script is None else script_of(spec.start_script)
        base = find(spec)
        packed, programs = (None, tools.of_this_machine()) if base.folder is None else tools.packed(self.ground.state)
        scratch = Path(spec.options.scratch) / spec.id if spec.options.scratch else folder / "scratch"
        place = Place(folder, scratch, packed, first, mapped=first > 0)
        nodes = devices.nodes_of(self.ground.devices, self.ground.dev)
        start = Boot(f"skerry-start-{secrets.token_hex(8)}", spec.options.grace_seconds, secrets.token_hex(16))
        env = boot.environment(spec, base.env)
        _write_folder(place, spec, boot.init_script(spec, programs, env, start), boot.sshd_config(spec, env), script)
        jupyter = spec.template is Template.JUPYTER
        plan = StagePlan(
            name=spec.id,
            hostname=spec.hostname,
            root=place.root,
            outer=rootfs.outer(spec, base, place),
            inner=rootfs.inner(
                spec, base, place, nodes, devices.driver_files() if self.ground.devices else [], bare=self.bare
            ),
            command=[*programs.shell, f"{boot.FOLDER}/init"],
            env=[f"{name}={value}" for name, value in env.items()],
            need="jupyter" if jupyter else "",
            users=first or None,
            bundle=str(folder / "bundle"),
        )
        console = Console(start.mark, has_script=script is not None)
        console.template_url = boot.jupyter_url(start) if jupyter else ""
        return self.finished(plan, spec, nodes), console

    def _wipe(self, spec: InstanceSpec) -> None:
        self.clear(spec.id)
        if spec.options.scratch:
            shutil.rmtree(Path(spec.options.scratch) / spec.id, ignore_errors=True)


async def _in_thread(call: Callable[[], T]) -> T:
    """Not given up half way: what is undone afterwards must not be done meanwhile."""
    task = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _write_folder(place: Place, spec: InstanceSpec, init: str, sshd_config: str, script: str | None) -> None:
    """What the instance sees as /.skerry and /etc/skerry; the parents only let through."""
    for folder in (place.folder.parent.parent, place.folder.parent, place.folder):
        folder.mkdir(mode=0o711, exist_ok=True)
    root = place.owner(0)
    for name, mode in (("root", 0o755), ("scratch", 0o711), ("bundle", 0o700), ("boot", 0o711), ("etc", 0o755)):
        (place.folder / name).mkdir(mode=mode)
    if spec.options.scratch:
        place.scratch.mkdir(mode=0o711, parents=True, exist_ok=True)
    (place.folder / "boot/tools").mkdir()
    files = {
        "boot/init": (init, 0o600),
        "boot/sshd_config": (sshd_config, 0o600),
        "etc/ssh_host_ed25519_key": (as_file(spec.host_key), 0o600),
        "etc/authorized_keys": ("".join(f"{key.strip()}\n" for key in spec.authorized_keys), 0o644),
        "etc/hosts": ("127.0.0.1 localhost\n::1 localhost\n", 0o644),
        "etc/known_hosts": ("", 0o644),
        "etc/notice": ("", 0o644),
    }
    if script is not None:
        files["boot/start"] = (script, 0o700)
    for name, (text, mode) in files.items():
        path = place.folder / name
        path.touch(mode=mode)
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, *root)
    for name in ("boot", "etc"):
        os.chown(place.folder / name, *root)
        (place.folder / name).chmod(0o711 if name == "boot" else 0o755)


def _wanted_port(name: str, ports: tuple[int, int]) -> int:
    """The same from run to run, as far as nobody else has it."""
    return ports[0] + sum(number * byte for number, byte in enumerate(name.encode(), 1)) % (ports[1] - ports[0] + 1)


def _first_user(port: int) -> int:
    """Nobody else on the node has these users while the port is ours; user numbers have 32 bits."""
    return _FIRST_USER + port % _RANGES * _USERS
