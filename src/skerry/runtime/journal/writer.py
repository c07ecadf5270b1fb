"""The gateway's side of the journal: append, and fsync in groups shortly after."""

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from skerry.runtime.journal.records import Record, encoder
from skerry.runtime.journal.segments import LOCK_FILE, SEGMENT_BYTES, frame, segment_path

SYNC_SECONDS = 0.025
"""Pause between a write and the fsync that covers it; with a slow disk's own time it stays under 50 ms."""
RETRY_SECONDS = 1.0
RESERVE_BYTES = 4 * 1024 * 1024


class JournalLocked(RuntimeError):
    """Another gateway writes this journal."""


class JournalWriter:
    """Appends records to one folder, which it holds by lock.

    `append` hands the record to the kernel before it returns: the death of any process loses nothing after that. A
    whole segment is kept allocated ahead. When the next one cannot be allocated (a full disk), `has_room` turns false
    while there is still `reserve_bytes` for the answers under way.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.folder = folder
        self.has_room = True
        self.trouble: str | None = None
        """Why there is no room, or why the disk does not take the data; None when all is well."""
        self.written = 0
        """Records appended since the start."""
        self._segment_bytes = segment_bytes
        self._reserve = min(reserve_bytes, segment_bytes // 2)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._dirty = False
        self._allocating = False
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = self._take_lock()
        self._number = 1
        self._fd = _allocate(segment_path(folder, 1), segment_bytes)
        self._offset = 0
        self._spare: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on, syncs and allocations run beside this loop."""
        self._loop = loop
        self._allocate_spare()

    def append(self, record: Record) -> None:
        """Write one record. Raises OSError where the disk fails us in spite of the room that was kept."""
        data = frame(encoder.encode(record))
        end = self._offset + len(data)
        if end > self._segment_bytes:
            self._next_segment()
            end = len(data)
        os.pwrite(self._fd, data, self._offset)
        self._offset = end
        self.written += 1
        if not self._dirty:
            self._dirty = True
            if self._loop is not None:
                self._loop.call_later(SYNC_SECONDS, self._sync)
        if self._spare is None and end > self._segment_bytes - self._reserve:
            self.has_room = False

    def close(self) -> None:
        """Sync and let go of the lock; the shipper then knows that nothing more will come."""
        if self._closed:
            return
        self._closed = True
        self._threads.shutdown(wait=True)
        os.fdatasync(self._fd)
        for fd in (self._fd, self._spare, self._lock):
            if fd is not None:
                os.close(fd)

    def _take_lock(self) -> int:
        fd = os.open(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise JournalLocked(f"journal {self.folder} belongs to another gateway that is running") from error
        return fd

    def _next_segment(self) -> None:
        spare, self._spare = self._spare, None
        if spare is None:
            spare = _allocate(segment_path(self.folder, self._number + 1), self._segment_bytes)
        old, self._fd, self._offset = self._fd, spare, 0
        self._number += 1
        self._in_thread(_sync_and_close, old)
        self._allocate_spare()

    def _allocate_spare(self) -> None:
        if self._allocating or self._spare is not None or self._closed or self._loop is None:
            return
        self._allocating = True
        path = segment_path(self.folder, self._number + 1)
        self._in_thread(_allocate, path, self._segment_bytes, then=self._spare_allocated)

    def _spare_allocated(self, future: "asyncio.Future[int]") -> None:
        self._allocating = False
        error = future.exception()
        if error is None:
            self._spare, self.has_room, self.trouble = future.result(), True, None
        elif not self._closed and self._loop is not None:
            self.trouble = f"no room for the usage journal: {error}"
            self._loop.call_later(RETRY_SECONDS, self._allocate_spare)

    def _sync(self) -> None:
        self._dirty = False
        self._in_thread(os.fdatasync, self._fd, then=self._synced)

    def _synced(self, future: "asyncio.Future[None]") -> None:
        error = future.exception()
        if error is not None:
            self.has_room, self.trouble = False, f"the usage journal cannot be written to disk: {error}"

    def _in_thread(
        self,
        call: Callable[..., object],
        *args: object,
        then: Callable[[asyncio.Future], None] | None = None,  # type: ignore[type-arg]
    ) -> None:
        if self._loop is None or self._closed:
            return
        future = self._loop.run_in_executor(self._threads, call, *args)
        future.add_done_callback(then or _ignore)


def _allocate(path: Path, size: int) -> int:
    """Create a segment with all its room taken from the disk. On failure nothing is left behind."""
    temporary = path.with_suffix(".new")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        temporary.rename(path)
    except OSError:
        os.close(fd)
        with suppress(OSError):
            temporary.unlink()
        raise
    return fd


def _sync_and_close(fd: int) -> None:
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _ignore(future: "asyncio.Future[object]") -> None:
    if not future.cancelled():
        future.exception()
