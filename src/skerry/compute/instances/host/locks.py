"""Who is alive on a node: an instance is, as long as its host program holds its lock. The kernel lets go of a dead
one's."""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PAUSE_SECONDS: Final = 0.05


FOLDER: Final = Path("/run/skerry/locks")
"""Of the node, whatever clouds are on it: control groups and partitions are the node's too, and nobody may take another
cloud's instance for a dead one."""


class Busy(RuntimeError):
    """Another host program has this instance."""


class Locks:
    """One file for each instance; it stays, so that nobody locks a file that was removed."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    async def hold(self, name: str, seconds: float) -> int:
        """For as long as this process lives. The attempt before may still be ending. Raises Busy."""
        descriptor = self._open(name)
        deadline = time.monotonic() + seconds
        while not _try(descriptor):
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise Busy(f"another host program on this node still has instance {name}")
            await asyncio.sleep(_PAUSE_SECONDS)
        return descriptor

    def held(self, name: str) -> bool:
        with self.if_free(name) as free:
            return not free

    @contextmanager
    def if_free(self, name: str) -> Iterator[bool]:
        """Whether nobody has it; then nobody can until the end of the block."""
        descriptor = self._open(name)
        try:
            yield _try(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
