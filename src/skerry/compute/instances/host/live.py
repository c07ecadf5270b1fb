"""An isolated instance that is up: reachable, counted, and taken down."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from skerry.compute.fabric import ip
from skerry.compute.fabric.base import Attachment, FabricError
from skerry.compute.instances.host.child import Stage
from skerry.compute.instances.host.console import Console
from skerry.compute.instances.host.drivers.base import CannotStart, Ground
from skerry.compute.instances.host.keys import SSH_PORT
from skerry.compute.instances.host.proxy import PORT as PROXY_PORT
from skerry.compute.instances.host.proxy import EgressProxy, Network
from skerry.compute.instances.host.relay import Forward
from skerry.compute.instances.host.spec import InstanceSpec

_READY_SECONDS: Final = 60.0
_LAST_SECONDS: Final = 5.0
"""More than what the instance's first process gives its own processes (boot.py)."""
_PAUSE_SECONDS: Final = 0.02


class Live:
    """`first` is the pid of the instance's first process; `clear` removes all that is left of it."""

    def __init__(
        self,
        spec: InstanceSpec,
        ground: Ground,
        stage: Stage,
        attachment: Attachment,
        first: int,
        console: Console,
        clear: Callable[[], None],
    ) -> None:
        self.console = console
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.port = 0
        self._spec = spec
        self._ground = ground
        self._stage = stage
        self._attachment = attachment
        self._first = os.pidfd_open(first)
        self._clear = clear
        self._egress = 0
        self._closed = False
        self._forward = Forward(self._connect)
        self._proxy: EgressProxy | None = None
        stage.ended.add_done_callback(self._on_end)

    @property
    def address(self) -> str:
        return self._attachment.ip

    @property
    def user(self) -> str:
        return self._spec.user

    @property
    def gateway(self) -> str:
        return self._attachment.uplink.gateway if self._attachment.uplink is not None else ""

    @property
    def etc(self) -> Path:
        return self._ground.folder(self._spec.id) / "etc"

    async def open(self, listening: socket.socket, allowed: list[Network]) -> None:
        """Wait until its SSH server answers, then let others in. Raises CannotStart."""
        await self._wait_for_banner()
        self.port = listening.getsockname()[1]
        await self._forward.listen(listening)
        if self._spec.options.egress_proxy:
            assert self._attachment.uplink is not None
            way_out = ip.socket_in(self._namespace)
            way_out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            way_out.bind((self._attachment.uplink.gateway, PROXY_PORT))
            self._proxy = EgressProxy(allowed)
            await self._proxy.listen(way_out)

    def egress_bytes(self) -> int:
        """Bytes on its uplink: whatever left its partition, SSH included. Stays when the link is gone."""
        with contextlib.suppress(FabricError):
            self._egress = self._ground.fabric.egress_bytes(self._attachment)
        return self._egress

    async def say(self, words: str) -> None:
        self._notice(words)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGUSR1)

    async def down(self, words: str) -> None:
        if self._closed:
            return
        self._notice(words)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGTERM)
        await asyncio.wait([self._stage.ended], timeout=self._spec.options.grace_seconds + _LAST_SECONDS)
        await self.close()

    async def close(self) -> None:
        """End everything at once, and leave nothing behind."""
        if self._closed:
            return
        self._closed = True
        await self._forward.close()
        if self._proxy is not None:
            await self._proxy.close()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)
        await self._stage.end()
        self.egress_bytes()
        os.close(self._first)
        await asyncio.to_thread(self._ground.fabric.detach, self._spec.partition, self._spec.id)
        await asyncio.to_thread(self._clear)

    @property
    def _namespace(self) -> Path:
        return ip.named(self._attachment.namespace)

    def _connect(self) -> tuple[socket.socket, tuple[str, int]]:
        """From the partition's own side, over the uplink: so what comes back is counted."""
        assert self._attachment.uplink is not None
        return ip.socket_in(self._namespace), (self._attachment.uplink.inside, SSH_PORT)

    async def _wait_for_banner(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not await self._banner():
            if self._stage.ended.done():
                words = list(self.console.last_words)
                raise CannotStart(words[-1].removeprefix("skerry: ") if words else "the instance ended at once")
            if time.monotonic() > deadline:
                raise CannotStart(f"its SSH server did not answer within {_READY_SECONDS:g} s", final=False)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _banner(self) -> bool:
        connection, address = self._connect()
        with connection:
            try:
                async with asyncio.timeout(2):
                    await asyncio.get_running_loop().sock_connect(connection, address)
                    return (await asyncio.get_running_loop().sock_recv(connection, 4)) == b"SSH-"
            except OSError:  # TimeoutError is one
                return False

    def _notice(self, words: str) -> None:
        with contextlib.suppress(OSError):
            (self.etc / "notice").write_text(words + "\n")

    def _on_end(self, code: asyncio.Future[int]) -> None:
        if not self.ended.done():
            self.ended.set_result(f"the instance was shut down from inside (exit code {code.result()})")
