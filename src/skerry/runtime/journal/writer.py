"""The gateway's side of the journal: append, and fsync in groups shortly after."""

import asyncio
import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from mypy_extensions import mypyc_attr

from skerry.runtime.journal.records import Record, encoder
from skerry.runtime.journal.segments import (
    HEADER,
    LOCK_FILE,
    MAX_PAYLOAD,
    SEGMENT_BYTES,
    frame,
    segment_path,
    unfinished,
)

SYNC_SECONDS = 0.025
"""Pause between a write and the fsync that covers it; with a slow disk's own time it stays under 50 ms."""
RETRY_SECONDS = 1.0
RESERVE_BYTES = 4 * 1024 * 1024


@mypyc_attr(native_class=False)
class JournalLocked(RuntimeError):
    """Another gateway writes this journal, or one has: a journal has one writer, ever."""


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
        self._allocation: Future[int] | None = None
        self._closed = False
        self._lock, self._fd = _begin(folder, segment_bytes)
        self._number = 1
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
        if len(data) > min(HEADER.size + MAX_PAYLOAD, self._segment_bytes):
            # Nobody would read it, nor what comes after it.
            raise OSError(errno.EMSGSIZE, f"a record of {len(data)} bytes does not fit the journal")
        end = self._offset + len(data)
        if end > self._segment_bytes:
            self._next_segment()
            end = len(data)
        if os.pwrite(self._fd, data, self._offset) != len(data):
            raise OSError(errno.EIO, "the journal took only a part of a record")
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
        if self._allocation is not None and self._allocation.exception() is None:
            self._spare = self._allocation.result()
        os.fdatasync(self._fd)
        for fd in (self._fd, self._spare, self._lock):
            if fd is not None:
                os.close(fd)

    def _next_segment(self) -> None:
        spare, self._spare = self._spare, None
        if spare is None:
            spare = self._allocate_now()
        old, self._fd, self._offset = self._fd, spare, 0
        self._number += 1
        if self._loop is None:
            _sync_and_close(old)
        else:
            self._in_thread(_sync_and_close, old)
        self._allocate_spare()

    def _allocate_now(self) -> int:
        """The next segment, waited for. One that is being allocated is taken: two of one name would lose records."""
        allocation, self._allocation = self._allocation, None
        if allocation is not None:
            return allocation.result()
        return _allocate(segment_path(self.folder, self._number + 1), self._segment_bytes)

    def _allocate_spare(self) -> None:
        if self._allocation is not None or self._spare is not None or self._closed or self._loop is None:
            return
        path = segment_path(self.folder, self._number + 1)
        self._allocation = allocation = self._threads.submit(_allocate, path, self._segment_bytes)
        loop = self._loop
        allocation.add_done_callback(lambda done: _call_soon(loop, self._spare_allocated, done))

    def _spare_allocated(self, allocation: Future[int]) -> None:
        if self._closed or self._allocation is not allocation:
            if allocation.exception() is not None:
                self._retry_allocation()
            return  # it was waited for, or is closed by `close`
        self._allocation = None
        error = allocation.exception()
        if error is None:
            self._spare, self.has_room, self.trouble = allocation.result(), True, None
        else:
            self.trouble = f"no room for the usage journal: {error}"
            self._retry_allocation()

    def _retry_allocation(self) -> None:
        if not self._closed and self._loop is not None:
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


def _begin(folder: Path, segment_bytes: int) -> tuple[int, int]:
    """Descriptors of lock and first segment. The folder is locked from the moment it has its name: a shipper that saw
    it earlier would take it for a dead gateway's and remove it. Raises JournalLocked.
    """
    draft = unfinished(folder)
    draft.mkdir(parents=True, mode=0o700, exist_ok=True)
    lock = os.open(draft / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    segment = -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        segment = _allocate(segment_path(draft, 1), segment_bytes)
        draft.rename(folder)
    except BlockingIOError as error:
        os.close(lock)
        raise JournalLocked(f"journal {folder} belongs to another gateway that is starting") from error
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        for opened in (segment, lock):
            if opened >= 0:
                os.close(opened)
        if folder.exists():
            raise JournalLocked(f"journal {folder} belongs to another gateway") from error
        raise
    return lock, segment


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[Future[int]], None], done: Future[int]) -> None:
    """From a thread; a loop that was closed meanwhile has nobody to tell."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, done)


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
