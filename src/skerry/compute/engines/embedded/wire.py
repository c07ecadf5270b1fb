"""The wire between client and agent: length-prefixed msgpack frames on a unix socket.

The agent tells callers by the kernel's word (SO_PEERCRED), so there are no keys. Both ends are of one installation and
one version; a version that differs is refused in words rather than misread.
"""

import asyncio
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

VERSION: Final = 1
MAX_FRAME: Final = 32 << 20
_LENGTH: Final = struct.Struct(">I")
_LONGEST_ADDRESS: Final = 100  # sun_path has 108 bytes


class Call(msgspec.Struct, frozen=True):
    """A verb and its body, which is read once the verb is known."""

    verb: str
    body: msgspec.Raw
    version: int = VERSION


class Problem(msgspec.Struct, frozen=True):
    """Why the agent would not, or could not."""

    code: str
    message: str


class Reply(msgspec.Struct, frozen=True):
    """Either an answer or a problem."""

    body: msgspec.Raw = msgspec.Raw(b"\xc0")
    problem: Problem | None = None


class ReadLog(msgspec.Struct, frozen=True):
    """Body of `logs`."""

    attempt: str
    rank: int
    offset: int
    limit: int


class SendSignal(msgspec.Struct, frozen=True):
    """Body of `signal`."""

    attempt: str
    number: int


class Cancel(msgspec.Struct, frozen=True):
    """Body of `cancel`."""

    attempt: str
    grace_seconds: float


class Drain(msgspec.Struct, frozen=True):
    """Body of `drain`."""

    node: str
    reason: str


class Fence(msgspec.Struct, frozen=True):
    """Body of `fence`."""

    node: str
    reason: str


class Events(msgspec.Struct, frozen=True):
    """Body of `events`."""

    cursor: str
    wait_seconds: float


class FrameTooLarge(ValueError):
    """A frame of more than MAX_FRAME bytes."""


def pack(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """None: the peer closed between frames. Raises FrameTooLarge, asyncio.IncompleteReadError."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    if length > MAX_FRAME:
        raise FrameTooLarge(f"a frame of {length} bytes")
    return await reader.readexactly(length)


async def write_frame(writer: asyncio.StreamWriter, value: Call | Reply) -> None:
    data = msgspec.msgpack.encode(value)
    if len(data) > MAX_FRAME:
        raise FrameTooLarge(f"a frame of {len(data)} bytes")
    writer.write(_LENGTH.pack(len(data)))
    writer.write(data)
    await writer.drain()


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The path in a form short enough for a socket address, however deep its folder is."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
