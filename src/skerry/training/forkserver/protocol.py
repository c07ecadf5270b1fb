"""What a supervisor and its fork server say to each other: one JSON object a packet, over a Unix socket pair."""

import json
import socket
from typing import Any, Final

PACKET: Final = 1 << 17

START: Final = "start"
"""{generation, rank, env}, with two descriptors: what the rank writes goes to the first, its steps to the second."""
SIGNAL: Final = "signal"
"""{signal}: to the first process of every rank."""
DUMP: Final = "dump"
"""Every Python rank writes its stacks."""
END: Final = "end"
"""{generation}: SIGKILL to all that lives."""

READY: Final = "ready"
"""{threads, seconds}: imports are done."""
STARTED: Final = "started"
"""{rank, pid}"""
EXITED: Final = "exited"
"""{generation, rank, exit_code, signal, asked}"""
STATES: Final = "states"
"""{states: {rank: letter of /proc/<pid>/stat}}: the answer to a dump."""
CLEARED: Final = "cleared"
"""{generation}: nothing of it is left."""


def send(sock: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    packet = json.dumps(message).encode()
    if descriptors:
        socket.send_fds(sock, [packet], descriptors)
    else:
        sock.send(packet)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and the descriptors with it. None: the other side is gone."""
    packet, descriptors, _, _ = socket.recv_fds(sock, PACKET, 4)
    return (json.loads(packet), descriptors) if packet else None
