"""What attempts leave with the control plane: a folder for each workload, in the file store, with a quota.

Files come in parts, so that a body is small and an upload goes on where it broke off; one is there whole or not at all.
"""

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.artifacts.files.errors import StorageFull
from skerry.compute.errors import ArtifactQuotaExceeded, BadArtifactPath, UnknownArtifact, WrongOffset
from skerry.compute.nodes.tokens import NodeCaller
from skerry.kernel.ids import ProjectId, WorkloadId

PART_BYTES: Final = 4 << 20
_BLOCK: Final = 1 << 20
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._=+@-]{1,200}")
_DEEPEST: Final = 16
_MOST_FILES: Final = 20_000
_DRAFTS: Final = ".drafts"


@dataclass(frozen=True, slots=True)
class Artifact:
    path: str
    bytes: int


class Artifacts:
    """`folder` is the installation's own; `quota` counts the bytes of one workload's."""

    def __init__(self, folder: Path, quota: int, keep_free: int = 0) -> None:
        self._folder = folder
        self._quota = quota
        self._keep_free = keep_free

    async def list(self, caller: NodeCaller, prefix: str = "") -> Sequence[Artifact]:
        """By path; whole ones only."""
        return await asyncio.to_thread(self._list, self._root(caller), prefix)

    async def open(self, caller: NodeCaller, path: str) -> tuple[Path, int]:
        """Where it lies and how many bytes it has. Raises UnknownArtifact, BadArtifactPath."""
        found = self._root(caller) / _checked(path)
        if not found.is_file():
            raise UnknownArtifact(f"There is no artifact {path!r}.")
        return found, found.stat().st_size

    async def write(self, caller: NodeCaller, path: str, offset: int, data: bytes, *, last: bool) -> int:
        """A part, at the end of what came before; the first one begins anew. How much is there now.

        Raises BadArtifactPath, WrongOffset, ArtifactQuotaExceeded, StorageFull.
        """
        return await asyncio.to_thread(self._write, self._root(caller), _checked(path), offset, data, last)

    async def delete(self, caller: NodeCaller, path: str) -> None:
        """A file, or a folder with all that is in it; nothing where there is none."""
        await asyncio.to_thread(_remove, self._root(caller) / _checked(path))

    async def remove(self, project: ProjectId, workload: WorkloadId) -> None:
        """All of a workload's, for whoever deletes what it was for."""
        await asyncio.to_thread(shutil.rmtree, self._folder / project / workload, ignore_errors=True)

    def _root(self, caller: NodeCaller) -> Path:
        return self._folder / caller.project / caller.workload

    def _list(self, root: Path, prefix: str) -> Sequence[Artifact]:
        found = []
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if name != _DRAFTS)
            for name in files:
                path = Path(folder) / name
                relative = str(path.relative_to(root))
                if relative.startswith(prefix):
                    found.append(Artifact(relative, path.stat().st_size))
        return sorted(found, key=lambda one: one.path)

    def _write(self, root: Path, path: str, offset: int, data: bytes, last: bool) -> int:
        drafts = root / _DRAFTS
        drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = drafts / hashlib.sha256(path.encode()).hexdigest()[:32]
        there = draft.stat().st_size if draft.exists() and offset else 0
        if there != offset:
            raise WrongOffset(there)
        self._check_room(root, path, offset, len(data))
        with draft.open("ab" if offset else "wb") as file:
            file.write(data)
            if last:
                file.flush()
                os.fsync(file.fileno())
        if last:
            target = root / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.rename(target)
        return offset + len(data)

    def _check_room(self, root: Path, path: str, offset: int, more: int) -> None:
        if self._keep_free and shutil.disk_usage(root).free < self._keep_free + more:
            raise StorageFull("There is no room for artifacts at the moment.", retry_after=60)
        if offset and offset % (16 * PART_BYTES):
            return  # it was looked at a moment ago
        there = [one for one in self._list(root, "") if one.path != path]
        if sum(one.bytes for one in there) + offset + more > self._quota or len(there) >= _MOST_FILES:
            raise ArtifactQuotaExceeded(self._quota)


async def read(path: Path, start: int, stop: int) -> AsyncIterator[bytes]:
    """`[start, stop)` in blocks. What was opened can be read to its end, even if it is replaced meanwhile."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while start < stop:
            block = await asyncio.to_thread(os.pread, file.fileno(), min(_BLOCK, stop - start), start)
            if not block:
                return
            start += len(block)
            yield block
    finally:
        file.close()


def _checked(path: str) -> str:
    parts = path.split("/")
    good = all(_SEGMENT.fullmatch(part) and part not in (".", "..") for part in parts)
    if not good or len(parts) > _DEEPEST or parts[0] == _DRAFTS:
        words = f"{path[:200]!r} is no path of an artifact: letters, digits and ._=+@- in at most {_DEEPEST} parts"
        raise BadArtifactPath(f"{words}.")
    return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
