"""A node that does not lead: finds the leader, does what it says, and ends when it is gone."""

import asyncio
import itertools
import time
from contextlib import suppress
from typing import Final

from skerry.training.supervisor import channel
from skerry.training.supervisor.channel import Channel
from skerry.training.supervisor.node import Node
from skerry.training.supervisor.peers import SILENT_SECONDS, ping
from skerry.training.supervisor.place import Here
from skerry.training.supervisor.wire import TO_NODE, Finish, FromNode, Kill, Ready, StopAsked

JOIN_SECONDS: Final = 300.0
"""Nodes of a gang start together, but fetch the source at their own speed."""
REJOIN_SECONDS: Final = 10.0
_BETWEEN_TRIES_SECONDS: Final = 0.1


class LeaderLost(ConnectionError):
    """No leader for too long."""


class Follower:
    def __init__(self, here: Here, secret: str) -> None:
        self._here = here
        self._secret = secret
        self._node: Node | None = None
        self._line: Channel | None = None
        self._ready: Ready | None = None
        self._stop_asked = False

    def attach(self, node: Node) -> None:
        self._node = node

    def emit(self, message: FromNode) -> None:
        """What our node says. Without a line it is lost, and with the line the generation is too."""
        if isinstance(message, Ready):
            self._ready = message
        if self._line is not None:
            self._line.send(message)

    def ask_to_stop(self) -> None:
        """SIGTERM came here: the leader decides what follows."""
        self._stop_asked = True
        self.emit(StopAsked())

    async def run(self) -> Finish:
        """Raises LeaderLost."""
        patience = JOIN_SECONDS
        while True:
            self._line = await self._find(patience)
            patience = REJOIN_SECONDS
            if self._ready is not None:
                self._line.send(self._ready)
            if self._stop_asked:
                self._line.send(StopAsked())
            finish = await self._listen(self._line)
            if finish is not None:
                return finish

    async def _find(self, patience: float) -> Channel:
        deadline = time.monotonic() + patience
        for port in itertools.cycle(channel.ports(self._here.attempt)):
            with suppress(ConnectionError):
                return await channel.connect(
                    self._here.addresses[0], port, self._here.node_rank, self._secret, self._here.attempt
                )
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_BETWEEN_TRIES_SECONDS / channel.CANDIDATES)
        raise LeaderLost(f"the job's first node ({self._here.names[0]}) did not answer for {patience:.0f} s")

    async def _listen(self, line: Channel) -> Finish | None:
        """None: the line broke."""
        assert self._node is not None
        pinging = asyncio.create_task(ping(line))
        try:
            while True:
                async with asyncio.timeout(SILENT_SECONDS):
                    message = await line.receive(TO_NODE)
                if isinstance(message, Finish):
                    return message
                self._node.handle(message)
        except (TimeoutError, ConnectionError, ValueError):
            # Our ranks are of no use without the others; the leader will say from where to go on.
            self._node.handle(Kill(0))
            return None
        finally:
            pinging.cancel()
            line.close()
            self._line = None
