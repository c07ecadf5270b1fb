"""Scalars in TensorBoard's event files: TFRecords (length, its CRC, data, its CRC; little-endian) of `Event` messages.

Formats: record_writer.h, event.proto, summary.proto and tensor.proto of TensorFlow.
Only scalars are read: `Summary.Value.simple_value`, and `tensor` of one float or double.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_HEAD: Final = 12
_FOOT: Final = 4
_LARGEST: Final = 1 << 16
"""Records above it are images and the like: passed over unread."""
_ABSURD: Final = 1 << 32
_POLYNOMIAL: Final = 0x82F63B78
_FLOAT, _DOUBLE = 1, 2


@dataclass(frozen=True, slots=True)
class Scalar:
    """`wall_ms`: Unix milliseconds."""

    tag: str
    step: int
    value: float
    wall_ms: int


class Corrupt(ValueError):
    """This is no event file, or it was damaged: nothing after this place can be read."""


def read(data: bytes) -> tuple[list[Scalar], int]:
    """Scalars of all whole records at the start of `data`, and how many bytes those records are. Raises Corrupt."""
    found: list[Scalar] = []
    at = 0
    while len(data) - at >= _HEAD:
        (length,) = struct.unpack_from("<Q", data, at)
        if length > _ABSURD or _masked(data[at : at + 8]) != struct.unpack_from("<I", data, at + 8)[0]:
            raise Corrupt("the length of a record does not match its checksum")
        end = at + _HEAD + length
        if len(data) < end + _FOOT:
            break
        if length <= _LARGEST:
            record = data[at + _HEAD : end]
            if _masked(record) != struct.unpack_from("<I", data, end)[0]:
                raise Corrupt("a record does not match its checksum")
            found += _scalars(record)
        at = end + _FOOT
    return found, at


def record_length(head: bytes) -> int:
    """Bytes of the record that begins so, with its frame, for passing over a large one. Raises Corrupt."""
    (length,) = struct.unpack_from("<Q", head, 0)
    if length > _ABSURD or _masked(head[:8]) != struct.unpack_from("<I", head, 8)[0]:
        raise Corrupt("the length of a record does not match its checksum")
    return _HEAD + int(length) + _FOOT


def _scalars(record: bytes) -> Iterator[Scalar]:
    wall, step, summary = 0.0, 0, b""
    for number, value in _fields(record):
        if number == 1 and isinstance(value, bytes) and len(value) == 8:
            wall = struct.unpack("<d", value)[0]
        elif number == 2 and isinstance(value, int):
            step = value - (1 << 64) if value >> 63 else value
        elif number == 5 and isinstance(value, bytes):
            summary = value
    for number, value in _fields(summary):
        if number == 1 and isinstance(value, bytes):
            scalar = _value(value)
            if scalar is not None:
                yield Scalar(scalar[0], step, scalar[1], round(wall * 1000))


def _value(message: bytes) -> tuple[str, float] | None:
    tag, scalar = "", None
    for number, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            tag = value.decode("utf-8", "replace")
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            scalar = struct.unpack("<f", value)[0]
        elif number == 8 and isinstance(value, bytes):
            scalar = _tensor(value)
    return (tag, scalar) if tag and scalar is not None else None


def _tensor(message: bytes) -> float | None:
    """Of one number: `float_val`, `double_val` (packed or not) or `tensor_content`."""
    kind, found = 0, b""
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number in (4, 5, 6) and isinstance(value, bytes):
            found = value
    form = {(_FLOAT, 4): "<f", (_DOUBLE, 8): "<d"}.get((kind, len(found)))
    return float(struct.unpack(form, found)[0]) if form else None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a protobuf message: integers for varints, else the bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise Corrupt(f"a field of kind {kind}")
        if at + size > len(message):
            raise Corrupt("a field ends after its message")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Corrupt("a number that does not end")


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE: Final = _table()


def _masked(data: bytes) -> int:
    """CRC-32C, turned and shifted as TFRecords have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
