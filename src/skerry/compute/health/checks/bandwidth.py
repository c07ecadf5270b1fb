"""Bandwidth between two nodes: bytes one way, then the other, over one TCP connection.

Rank 0 listens on one of a few ports that follow from the workload, rank 1 finds it there; both greet each other with
the workload's id, so that neither talks to a stranger. With GPUs and NCCL the way is the same network.
"""

import hashlib
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from skerry.compute.health.checks.found import Found

PORTS: Final = 8
_FIRST: Final = 42_000
_RANGE: Final = 8_000
_CHUNK: Final = 1 << 20
_PATIENCE_SECONDS: Final = 60.0
_STEP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Who we are of the two. `greeting` is 32 bytes that only this pair knows."""

    rank: int
    addresses: tuple[str, ...]
    greeting: bytes
    ports: tuple[int, ...]

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Pair":
        """From what the engine tells a task of its gang."""
        known = env.get("SKERRY_ATTEMPT", "")
        digest = hashlib.sha256(f"bandwidth {known}".encode()).digest()
        start = int.from_bytes(digest[:4])
        ports = tuple(_FIRST + (start + number * 997) % _RANGE for number in range(PORTS))
        rank = int(env.get("SKERRY_NODE_RANK") or env.get("SKERRY_RANK") or 0)
        addresses = tuple(env.get("SKERRY_NODE_ADDRESSES", "").split(","))
        return cls(rank, addresses, digest, ports)


def bandwidth(pair: Pair, seconds: float, least_mbit: int = 0, patience: float = _PATIENCE_SECONDS) -> Found:
    """Megabits a second each way. Fails where the two do not meet, or the slower way is below `least_mbit`."""
    if len(pair.addresses) != 2:
        return Found(False, f"a bandwidth check is between two nodes, not {len(pair.addresses)}")
    deadline = time.monotonic() + patience
    try:
        with _meet(pair, deadline) as peer:
            peer.settimeout(patience)
            sends_first = pair.rank == 1
            ways = [_send(peer, seconds / 2) if way == sends_first else _receive(peer) for way in (True, False)]
    except OSError as error:
        return Found(False, f"the two nodes do not reach each other: {error}")
    sent, received = ways if sends_first else reversed(ways)
    figures = {"sent_mbit": round(sent, 1), "received_mbit": round(received, 1)}
    slower = min(figures.values())
    words = f"{figures['sent_mbit']} Mbit/s there, {figures['received_mbit']} Mbit/s back"
    if slower < least_mbit:
        return Found(False, f"{words}: less than the {least_mbit} Mbit/s that are wanted", figures)
    return Found(True, words, figures)


def _meet(pair: Pair, deadline: float) -> socket.socket:
    return _listen(pair, deadline) if pair.rank == 0 else _call(pair, deadline)


def _listen(pair: Pair, deadline: float) -> socket.socket:
    door = _bound(pair)
    with door:
        while (left := deadline - time.monotonic()) > 0:
            door.settimeout(min(_STEP_SECONDS, left))
            with suppress(TimeoutError):
                peer, _ = door.accept()
                if _greeted(peer, pair):
                    return peer
                peer.close()
    raise TimeoutError("the other node never called")


def _bound(pair: Pair) -> socket.socket:
    for port in pair.ports:
        door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(("", port))
            door.listen(4)
        except OSError:
            door.close()
            continue
        return door
    raise OSError(f"none of {PORTS} ports is free")


def _call(pair: Pair, deadline: float) -> socket.socket:
    problem: OSError = TimeoutError("the other node never answered")
    while time.monotonic() < deadline:
        for port in pair.ports:
            try:
                peer = socket.create_connection((pair.addresses[0], port), timeout=_STEP_SECONDS)
            except OSError as error:
                problem = error
                continue
            if _greeted(peer, pair):
                return peer
            peer.close()
        time.sleep(0.1)
    raise problem


def _greeted(peer: socket.socket, pair: Pair) -> bool:
    """Both say the greeting; who does not is somebody else."""
    try:
        peer.settimeout(_STEP_SECONDS)
        peer.sendall(pair.greeting)
        said = b""
        while len(said) < len(pair.greeting):
            part = peer.recv(len(pair.greeting) - len(said))
            if not part:
                return False
            said += part
    except OSError:
        return False
    return said == pair.greeting


def _send(peer: socket.socket, seconds: float) -> float:
    """Chunks with a length before each; a length of 0 ends them. The receiver's word is what counts."""
    chunk = bytes(_CHUNK)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        peer.sendall(_CHUNK.to_bytes(4) + chunk)
    peer.sendall((0).to_bytes(4))
    return float(_exactly(peer, 16).decode())


def _receive(peer: socket.socket) -> float:
    begun, size = time.monotonic(), 0
    while (length := int.from_bytes(_exactly(peer, 4))) > 0:
        _exactly(peer, length)
        size += length
    rate = size * 8 / max(time.monotonic() - begun, 1e-9) / 1e6
    peer.sendall(f"{rate:16.2f}".encode())
    return rate


def _exactly(peer: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = peer.recv(min(size - len(parts), _CHUNK))
        if not part:
            raise ConnectionError("the other node has gone")
        parts += part
    return bytes(parts)
