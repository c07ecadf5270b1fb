"""What a role is handed when it starts."""

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass, field

from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings


@dataclass(slots=True)
class RoleContext:
    """`stopping` is set by SIGTERM: finish what is under way, then return."""

    settings: Settings
    keyring: Keyring
    database_url: str
    gateway_socket: socket.socket | None = None
    """The public port, opened by the launcher."""
    server_socket: socket.socket | None = None
    """The control API's Unix socket, opened by the launcher."""
    allowed_uids: frozenset[int] = frozenset()
    """Who may give the agent orders."""
    lifeline_fd: int | None = None
    """Reads as ended when the launcher is gone."""
    tls: ssl.SSLContext | None = None
    """For upstreams with https, made while certificates could be read."""
    internal_socket: socket.socket | None = None
    """The gateway's Unix socket for the cloud's own requests, opened by the launcher."""
    certificate: ssl.SSLContext | None = None
    """Of the public port, made while the key could be read; None: plain HTTP."""
    news_fd: int | None = None
    """Where a gateway tells the launcher how far it is."""
    engine: str = "embedded"
    virtual_nodes: int = 1
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    handed_over: bool = False
    """With `stopping`: another process has taken over, so that there is time to finish everything."""
    hurried: asyncio.Event = field(default_factory=asyncio.Event)
    """The time for that is over: everything stops."""

    def tell(self, word: str) -> None:
        """A word to the launcher, if there is one."""
        if self.news_fd is not None:
            os.write(self.news_fd, f"{word} {os.getpid()}\n".encode())
