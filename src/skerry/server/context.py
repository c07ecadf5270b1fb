"""What a role is handed when it starts."""

import asyncio
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
    engine: str = "embedded"
    virtual_nodes: int = 1
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
