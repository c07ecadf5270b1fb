"""The line between supervisors: TCP, both ends prove that they know the job's secret, every message carries a MAC.

Anyone on the nodes' network can connect. Without the secret they learn nothing and change nothing; a replayed or
reordered message breaks the line. Not encrypted: what passes are steps and metrics.
"""

import asyncio
import hmac
import os
from hashlib import blake2b, sha256
from typing import Final, TypeVar

import msgspec

_MAGIC: Final = b"SKT1"
_NONCE: Final = 16
_PROOF: Final = 32
_MAC: Final = 16
_LARGEST: Final = 1 << 22
_HANDSHAKE_SECONDS: Final = 5.0

CANDIDATES: Final = 16
_LOWEST_PORT: Final = 20_000
# Below where kernels choose ports of outgoing connections.
_PORTS: Final = 12_000

T = TypeVar("T")


class BadPeer(ConnectionError):
    """Whoever is there does not know the secret, or speaks something else."""


class Channel:
    """One line that is up. Everything that breaks it is a ConnectionError."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, mine: bytes, theirs: bytes
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._send_key = _mac_key(key, mine)
        self._receive_key = _mac_key(key, theirs)
        self._sent = 0
        self._received = 0

    def send(self, message: object) -> None:
        """Queued; a peer that does not read is noticed by its silence."""
        payload = msgspec.json.encode(message)
        mac = _mac(self._send_key, self._sent, payload)
        self._sent += 1
        self._writer.write(len(payload).to_bytes(4) + mac + payload)

    async def receive(self, decoder: msgspec.json.Decoder[T]) -> T:
        """Raises ConnectionError."""
        try:
            size = int.from_bytes(await self._reader.readexactly(4))
            if size > _LARGEST:
                raise BadPeer("a message too long")
            mac = await self._reader.readexactly(_MAC)
            payload = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ConnectionResetError(str(error)) from error
        if not hmac.compare_digest(mac, _mac(self._receive_key, self._received, payload)):
            raise BadPeer("a message with a false MAC")
        self._received += 1
        return decoder.decode(payload)

    def close(self) -> None:
        self._writer.close()


def ports(attempt: str) -> list[int]:
    """Where an attempt's leader may listen, in the order of trying. The same on every node."""
    found: list[int] = []
    turn = 0
    while len(found) < CANDIDATES:
        digest = blake2b(f"{attempt}/{turn}".encode(), digest_size=4).digest()
        port = _LOWEST_PORT + int.from_bytes(digest) % _PORTS
        if port not in found:
            found.append(port)
        turn += 1
    return found


async def accept(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: str, attempt: str
) -> tuple[int, Channel]:
    """The leader's side: (node rank, the line). Raises BadPeer."""
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            hello = await reader.readexactly(len(_MAGIC) + 4 + _NONCE)
            if hello[:4] != _MAGIC:
                raise BadPeer("not a supervisor")
            nonce = os.urandom(_NONCE)
            writer.write(nonce + _proof(secret, b"leader", attempt, hello, nonce))
            if not hmac.compare_digest(
                await reader.readexactly(_PROOF), _proof(secret, b"follower", attempt, hello, nonce)
            ):
                raise BadPeer("it does not know the secret")
    except (TimeoutError, asyncio.IncompleteReadError, OSError) as error:
        raise BadPeer(f"no handshake: {error}") from error
    key = _proof(secret, b"session", attempt, hello, nonce)
    return int.from_bytes(hello[4:8]), Channel(reader, writer, key, b"leader", b"follower")


async def connect(address: str, port: int, rank: int, secret: str, attempt: str) -> Channel:
    """A follower's side. Raises ConnectionError; BadPeer where something else listens there."""
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            reader, writer = await asyncio.open_connection(address, port)
    except (TimeoutError, OSError) as error:
        raise ConnectionRefusedError(str(error)) from error
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            hello = _MAGIC + rank.to_bytes(4) + os.urandom(_NONCE)
            writer.write(hello)
            answer = await reader.readexactly(_NONCE + _PROOF)
            nonce, proof = answer[:_NONCE], answer[_NONCE:]
            if not hmac.compare_digest(proof, _proof(secret, b"leader", attempt, hello, nonce)):
                raise BadPeer("it does not know the secret")
            writer.write(_proof(secret, b"follower", attempt, hello, nonce))
    except (TimeoutError, asyncio.IncompleteReadError, OSError) as error:
        writer.close()
        raise error if isinstance(error, BadPeer) else BadPeer(f"no handshake: {error}") from error
    key = _proof(secret, b"session", attempt, hello, nonce)
    return Channel(reader, writer, key, b"follower", b"leader")


def _proof(secret: str, role: bytes, attempt: str, hello: bytes, nonce: bytes) -> bytes:
    return hmac.digest(secret.encode(), b"\0".join([role, attempt.encode(), hello, nonce]), "sha256")


def _mac_key(key: bytes, role: bytes) -> bytes:
    return sha256(key + role).digest()


def _mac(key: bytes, number: int, payload: bytes) -> bytes:
    return blake2b(number.to_bytes(8) + payload, key=key, digest_size=_MAC).digest()
