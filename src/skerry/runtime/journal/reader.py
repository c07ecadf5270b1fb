"""The shipper's side of the journal: read on from a position, and know when a journal has ended."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from skerry.runtime.journal.records import Record, decoder
from skerry.runtime.journal.segments import (
    HEADER,
    LOCK_FILE,
    MAX_PAYLOAD,
    SHIP_LOCK_FILE,
    checksum,
    segment_numbers,
    segment_path,
)

READ_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where the next frame starts."""

    segment: int = 1
    offset: int = 0


class Tail(Enum):
    """What lies behind the last frame that was read."""

    MORE = "more"
    """There is more to read now."""
    END = "end"
    """Nothing yet."""
    TORN = "torn"
    """A frame that was not finished: for a live journal, look again; for a dead one, the end."""


@dataclass(frozen=True, slots=True)
class Batch:
    records: tuple[Record, ...]
    start: Position
    end: Position
    tail: Tail


def read_batch(folder: Path, start: Position, limit: int = 10_000) -> Batch:
    """Up to `limit` records from `start` on, never crossing a segment's end."""
    segments = segment_numbers(folder)
    if start.segment not in segments:
        later = [n for n in segments if n > start.segment]
        return Batch((), start, Position(later[0]) if later else start, Tail.MORE if later else Tail.END)
    has_next = start.segment + 1 in segments
    records, offset, tail = _read_frames(segment_path(folder, start.segment), start.offset, limit)
    end = Position(start.segment, offset)
    if tail is not Tail.MORE and has_next and _is_used(folder, start.segment + 1):
        # The writer has gone on. What it finished before that is in this segment for good: look once more.
        again, offset, tail = _read_frames(segment_path(folder, start.segment), offset, limit)
        records += again
        if tail is Tail.MORE:
            return Batch(tuple(records), start, Position(start.segment, offset), tail)
        return Batch(tuple(records), start, Position(start.segment + 1), Tail.MORE)
    return Batch(tuple(records), start, end, tail)


def is_alive(folder: Path) -> bool:
    """Whether a gateway holds the journal."""
    try:
        fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def shipping(folder: Path) -> Iterator[bool]:
    """Hold the right to ship a journal; yields False where another process has it."""
    try:
        fd = os.open(folder / SHIP_LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


def drop_segments_before(folder: Path, segment: int) -> None:
    for number in segment_numbers(folder):
        if number < segment:
            segment_path(folder, number).unlink(missing_ok=True)


def remove_journal(folder: Path) -> None:
    """Delete a journal that was shipped to its end."""
    shutil.rmtree(folder, ignore_errors=True)


def _read_frames(path: Path, offset: int, limit: int) -> tuple[list[Record], int, Tail]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Mostly there is nothing new: eight bytes tell, where a segment's allocated rest would be megabytes of zeros.
        peek = os.pread(fd, HEADER.size, offset)
        if len(peek) == HEADER.size and not HEADER.unpack(peek)[0]:
            return [], offset, Tail.END
        data = os.pread(fd, READ_BYTES, offset)
        whole = offset + len(data) >= os.fstat(fd).st_size
    finally:
        os.close(fd)
    records: list[Record] = []
    at = 0
    while len(records) < limit:
        if at + HEADER.size > len(data):
            return records, offset + at, Tail.END if whole else Tail.MORE
        length, crc = HEADER.unpack_from(data, at)
        if length == 0:
            return records, offset + at, Tail.END
        if length > MAX_PAYLOAD:
            return records, offset + at, Tail.TORN
        end = at + HEADER.size + length
        if end > len(data):
            return records, offset + at, Tail.TORN if whole else Tail.MORE
        payload = data[at + HEADER.size : end]
        if checksum(payload) != crc:
            return records, offset + at, Tail.TORN
        try:
            records.append(decoder.decode(payload))
        except msgspec.MsgspecError:
            if records:
                return records, offset + at, Tail.MORE
            # Checksummed, yet not ours: written by a newer version. Stop here rather than skip what is owed.
            raise UnreadableRecord(f"{path.name} at byte {offset + at} holds a record of a newer version") from None
        at = end
    return records, offset + at, Tail.MORE


def _is_used(folder: Path, segment: int) -> bool:
    """Whether anything was written to a segment (it may only be allocated ahead)."""
    try:
        with segment_path(folder, segment).open("rb") as file:
            return any(file.read(HEADER.size))
    except FileNotFoundError:
        return False


class UnreadableRecord(RuntimeError):
    """A whole record this version does not understand."""
