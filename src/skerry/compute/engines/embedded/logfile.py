"""A task's log: one file that the task appends to, and a few older parts. Offsets count from the task's first byte.

The task holds the file itself, not a pipe to the agent, so that it can go on writing while the agent is away. Rotation
therefore copies and truncates; bytes written in the microseconds between the two are lost.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Final

_CURRENT: Final = "output.log"
_COPY: Final = "output.copy"
_PART: Final = re.compile(r"output\.(\d{20})\.log")
_BLOCK: Final = 1 << 20


class LogFile:
    """The log in `folder`. Not for use by two processes at once, but for the task's appending."""

    def __init__(self, folder: Path, *, max_bytes: int = 8 << 20, keep: int = 4) -> None:
        """A file is rotated once it is larger than `max_bytes`; `keep` ≥ 1 older parts of at most that size stay."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._keep = keep

    def create(self, owner: tuple[int, int] | None = None) -> int:
        """The descriptor to give to the task. It belongs to `owner` (uid, gid), who may want to open /dev/stdout."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._folder / _CURRENT, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if owner is not None:
            os.fchown(fd, *owner)
        return fd

    def exists(self) -> bool:
        return (self._folder / _CURRENT).exists()

    def size(self) -> int:
        """Bytes written so far, those that rotation has dropped included."""
        return self._current_start() + self._current_size()

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """Up to `limit` bytes from `offset`, or from the oldest that is left after it; with where they begin."""
        chunks: list[bytes] = []
        begin: int | None = None
        for start, path in [*self._parts(), (self._current_start(), self._folder / _CURRENT)]:
            size = _size(path)
            if offset >= start + size or limit <= 0:
                continue
            if begin is not None and start != offset:
                break  # a gap: what is returned is one piece
            offset = max(offset, start)
            begin = offset if begin is None else begin
            data = _read(path, offset - start, limit)
            chunks.append(data)
            offset += len(data)
            limit -= len(data)
        return (offset if begin is None else begin), b"".join(chunks)

    def rotate(self) -> bool:
        """Put the current file aside if it has grown too large. Returns whether it had."""
        if self._current_size() <= self._max_bytes:
            return False
        start = self._current_start()
        copy, current = self._folder / _COPY, self._folder / _CURRENT
        with open(current, "r+b") as source, open(copy, "wb") as target:
            # Of a file that grew much faster than it is looked after only the end is kept.
            skipped = max(0, os.fstat(source.fileno()).st_size - self._max_bytes)
            source.seek(skipped)
            shutil.copyfileobj(source, target, _BLOCK)
            target.flush()
            os.ftruncate(source.fileno(), 0)
        copy.rename(self._part(start + skipped))
        for _, path in self._parts()[: -self._keep]:
            path.unlink(missing_ok=True)
        return True

    def recover(self) -> None:
        """Finish or undo a rotation that the agent's death cut off."""
        copy = self._folder / _COPY
        if not copy.exists():
            return
        head = _read(copy, 0, _BLOCK)
        if _read(self._folder / _CURRENT, 0, len(head)) == head:
            copy.unlink()  # not truncated yet: nothing has moved
        else:
            copy.rename(self._part(self._current_start()))

    def _part(self, start: int) -> Path:
        return self._folder / f"output.{start:020d}.log"

    def _parts(self) -> list[tuple[int, Path]]:
        if not self._folder.is_dir():
            return []
        found = ((_PART.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted((int(match[1]), path) for match, path in found if match)

    def _current_start(self) -> int:
        parts = self._parts()
        return parts[-1][0] + _size(parts[-1][1]) if parts else 0

    def _current_size(self) -> int:
        return _size(self._folder / _CURRENT)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path, position: int, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(position)
            return file.read(limit)
    except FileNotFoundError:
        return b""
