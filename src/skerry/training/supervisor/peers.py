"""The leader's lines to all nodes: to its own by calls, to the others over TCP."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from skerry.training.supervisor import channel
from skerry.training.supervisor.channel import BadPeer, Channel
from skerry.training.supervisor.node import Node
from skerry.training.supervisor.place import Here
from skerry.training.supervisor.wire import FROM_NODE, FromNode, Gone, Ping, ToNode

PING_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 5.0
"""A line that says nothing for so long is broken."""
_log = logging.getLogger(__name__)


class Peers:
    """`heard(node rank, message)` is called in the event loop; a broken line is heard as `Gone`."""

    def __init__(self, here: Here, secret: str, heard: Callable[[int, FromNode], None]) -> None:
        self._here = here
        self._secret = secret
        self._heard = heard
        self._own: Node | None = None
        self._lines: dict[int, Channel] = {}
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    def attach(self, own: Node) -> None:
        self._own = own

    async def listen(self) -> None:
        """On the first candidate that is free. Raises OSError where none is."""
        if self._here.nodes == 1:
            return
        for port in channel.ports(self._here.attempt):
            for host in (self._here.addresses[0], None):
                with suppress(OSError):
                    self._server = await asyncio.start_server(self._serve, host, port)
                    return
        raise OSError("none of the ports for a job's supervisors is free")

    def connected(self) -> list[int]:
        return sorted({0, *self._lines})

    def send(self, rank: int, message: ToNode) -> None:
        if rank == 0 and self._own is not None:
            self._own.handle(message)
        elif rank in self._lines:
            self._lines[rank].send(message)

    def send_all(self, message: ToNode) -> None:
        for rank in range(self._here.nodes):
            self.send(rank, message)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for line in self._lines.values():
            line.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            rank, line = await channel.accept(reader, writer, self._secret, self._here.attempt)
            if not 0 < rank < self._here.nodes:
                raise BadPeer(f"there is no node {rank}")
            await self._converse(rank, line)
        except BadPeer as error:
            _log.warning("a connection to the job's control port was refused: %s", error)
        except asyncio.CancelledError:
            return  # we are closing
        finally:
            self._serving.discard(task)
            writer.close()

    async def _converse(self, rank: int, line: Channel) -> None:
        """A node that comes anew takes the place of its older line."""
        older = self._lines.get(rank)
        if older is not None:
            older.close()
            self._heard(rank, Gone())
        self._lines[rank] = line
        pinging = asyncio.create_task(ping(line))
        try:
            while True:
                async with asyncio.timeout(SILENT_SECONDS):
                    message = await line.receive(FROM_NODE)
                self._heard(rank, message)
        except (TimeoutError, ConnectionError, ValueError):
            pass
        finally:
            pinging.cancel()
            if self._lines.get(rank) is line:
                del self._lines[rank]
                self._heard(rank, Gone())


async def ping(line: Channel) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        line.send(Ping())
