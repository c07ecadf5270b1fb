"""The host program's life: one instance up, reported, kept, and down again.

It ends when it is told to (SIGTERM), when the instance ends by itself, or when its time is over. Exit codes: 0 it went
down in order, 78 it cannot run here as it is, 1 it may be tried again.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from skerry.compute.instances.host import leftovers, peers
from skerry.compute.instances.host.choosing import choose
from skerry.compute.instances.host.drivers.base import CannotStart, Driver, Ground, Running
from skerry.compute.instances.host.keys import as_file, public_of
from skerry.compute.instances.host.locks import Busy, Locks
from skerry.compute.instances.host.peers import NoAnswer, PeerSource
from skerry.compute.instances.host.spec import EXIT_REFUSED, BadSpec, InstanceReport, InstanceSpec, Peer, SshAddress

_LOCK_SECONDS: Final = 20.0
_REPORT_SECONDS: Final = 1.0
_PEERS_SECONDS: Final = 1.0
_PEERS_KNOWN_SECONDS: Final = 15.0
_WARNINGS: Final = (600, 60)
"""Seconds before it expires at which users are told."""
_STOPPING: Final = "This machine is being stopped now. Save your work: what is not in your home or on a volume is lost."


class Program:
    """One run. `say` is the workload's log."""

    def __init__(
        self,
        spec: InstanceSpec,
        ground: Ground,
        drivers: Sequence[Driver],
        report: Path | None,
        source: PeerSource | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._spec = spec
        self._ground = ground
        self._drivers = drivers
        self._report = report
        self._source = source
        self._now = now
        self._locks = Locks()
        self._stop = asyncio.Event()
        self._reported: bytes = b""
        self._peers = 1

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> int:
        """The exit code."""
        try:
            host_key = public_of(self._spec.host_key)
            driver = choose(self._spec, self._drivers)
            await self._locks.hold(self._spec.id, _LOCK_SECONDS)
            gone = leftovers.clear(
                self._ground.state, self._locks, self._ground.groups, self._ground.fabric, self._drivers, self._spec.id
            )
            if gone:
                say(f"skerry: removed what was left of {', '.join(gone)}")
            running = await self._up(driver)
        except CannotStart as error:
            say(f"skerry: {error}")
            return EXIT_REFUSED if error.final else 1
        except BadSpec as error:
            say(f"skerry: {error}")
            return EXIT_REFUSED
        except Busy as error:
            say(f"skerry: {error}")
            return 1
        if running is None:
            return 0
        try:
            return await self._keep(driver, running, host_key)
        finally:
            await running.down(_STOPPING)
            say("skerry: the instance is down")

    async def _up(self, driver: Driver) -> Running | None:
        """None: it was told to stop meanwhile."""
        coming = asyncio.ensure_future(driver.up(self._spec))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([coming, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not coming.done():
            coming.cancel()
            await asyncio.wait([coming])
            if not coming.cancelled() and coming.exception() is None:
                await coming.result().down(_STOPPING)
            return None
        return await coming

    async def _keep(self, driver: Driver, running: Running, host_key: str) -> int:
        say(f"skerry: {self._spec.hostname} is up ({driver.name}), SSH port {running.port}")
        background = [asyncio.ensure_future(self._report_on(driver, running, host_key))]
        background.append(asyncio.ensure_future(self._expire(running)))
        if self._spec.cluster is not None:
            background.append(asyncio.ensure_future(self._keep_peers(running, host_key)))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            watched: set[asyncio.Future[Any]] = {stopping, running.ended, *background}
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, *background):
                task.cancel()
        if running.ended in done:
            say(f"skerry: {running.ended.result()}")
        for task in background:
            if task in done:
                task.result()
        return 0

    async def _report_on(self, driver: Driver, running: Running, host_key: str) -> None:
        while True:
            self._write_report(driver, running, host_key)
            await asyncio.sleep(_REPORT_SECONDS)

    def _write_report(self, driver: Driver, running: Running, host_key: str) -> None:
        options, console = self._spec.options, running.console
        report = InstanceReport(
            driver=driver.name,
            boundary=driver.boundary(self._spec),
            ssh=SshAddress(
                host=options.address or options.listen, port=running.port, user=running.user, host_key=host_key
            ),
            address=running.address,
            egress_bytes=running.egress_bytes(),
            ready=True,
            start_script=console.start_script,
            start_script_exit=console.start_script_exit,
            start_script_tail=console.tail if console.start_script_exit is not None else "",
            template_url=console.template_url,
            peers=self._peers,
        )
        data = msgspec.json.encode(report)
        if self._report is not None and data != self._reported:
            replace(self._report, data)
            self._reported = data

    async def _expire(self, running: Running) -> None:
        """Returns when its time is over; the control plane may be away."""
        if self._spec.expires_at is None:
            await asyncio.Event().wait()
            return
        for before in (*_WARNINGS, 0):
            left = (self._spec.expires_at - self._now()).total_seconds() - before
            if left < 0 and before:
                continue
            await asyncio.sleep(max(left, 0))
            if before:
                await running.say(f"This machine is stopped in {before // 60} min: its time is over then.")
        say("skerry: its time is over")

    async def _keep_peers(self, running: Running, host_key: str) -> None:
        """Ask who is up and write it down, until told otherwise: members come and go."""
        cluster = self._spec.cluster
        assert cluster is not None
        write(running.etc / "id_ed25519", as_file(cluster.private_key), 0o600)
        write(running.etc / "id_ed25519.pub", cluster.public_key.strip() + "\n", 0o644)
        keys = [*self._spec.authorized_keys, cluster.public_key]
        write(running.etc / "authorized_keys", "".join(f"{key.strip()}\n" for key in keys), 0o644)
        own = Peer(
            index=cluster.index or 0,
            name=self._spec.hostname,
            address=running.address,
            user=running.user,
            host_key=host_key,
        )
        before: list[Peer] | None = None
        while True:
            found: list[Peer] = [] if before is None else before
            if self._source is not None:
                try:
                    found = list(await self._source.peers())
                except NoAnswer as error:
                    say(f"skerry: peers are not known yet: {error}")
            if found != before:
                for name, text in peers.files(self._spec, own, found).items():
                    write(running.etc / name, text, 0o644)
                write(running.etc / "hosts", peers.hosts(self._spec, running.address, running.gateway, found), 0o644)
                self._peers = len(peers.files(self._spec, own, found)["hostfile"].splitlines())
                before = found
            await asyncio.sleep(_PEERS_KNOWN_SECONDS if peers.complete(self._spec, found) else _PEERS_SECONDS)


def write(path: Path, text: str, mode: int) -> None:
    """In place, since the file itself may be mounted inside; it belongs to whom its folder belongs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    info = path.parent.stat()
    os.chown(path, info.st_uid, info.st_gid)


def replace(path: Path, data: bytes) -> None:
    """A reader sees the old report or the new one."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    # We are root and the folder may be another user's: what that user put there is not followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(part, flags, 0o644), "wb") as file:
        file.write(data)
    part.replace(path)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def environment(environ: Mapping[str, str]) -> tuple[Path, Path | None, str, int]:
    """Folder of secret files, the report's path, the control API's address, the task's node rank."""
    report = environ.get("SKERRY_REPORT")
    rank = environ.get("SKERRY_NODE_RANK") or environ.get("SKERRY_RANK") or "0"
    return (
        Path(environ.get("SKERRY_FILES", ".")),
        Path(report) if report else None,
        environ.get("SKERRY_API_URL", ""),
        int(rank),
    )


def on_signals(stop: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
