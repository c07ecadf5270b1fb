"""TensorBoard's files below a folder, read on from where one stopped."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.training.rules import tensorboard
from skerry.training.rules.tensorboard import Scalar

_MARK: Final = "tfevents"
_CHUNK: Final = 1 << 20
_HEAD: Final = 12
_MOST_FILES: Final = 64
_DEPTH: Final = 4


@dataclass(slots=True)
class _File:
    offset: int = 0
    broken: bool = False


class Boards:
    """Folders that may not be there yet. Old files are read from the start: what a program writes, it means."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        self._files: dict[str, _File] = {}

    def read(self) -> list[Scalar]:
        """At most a chunk a file each time: the rest comes with the next."""
        found: list[Scalar] = []
        for path in self._paths():
            if path in self._files or len(self._files) < _MOST_FILES:
                state = self._files.setdefault(path, _File())
                if not state.broken:
                    with suppress(OSError):
                        found += self._read(path, state)
        return found

    def _read(self, path: str, state: _File) -> list[Scalar]:
        size = Path(path).stat().st_size
        if size <= state.offset:
            return []
        with open(path, "rb") as file:
            file.seek(state.offset)
            data = file.read(_CHUNK)
        try:
            scalars, used = tensorboard.read(data)
            if not used and len(data) == _CHUNK:
                # One record is larger than what we read: an image. Past it, once it is whole.
                length = tensorboard.record_length(data[:_HEAD])
                used = length if state.offset + length <= size else 0
        except tensorboard.Corrupt:
            state.broken = True
            return []
        state.offset += used
        return scalars

    def _paths(self) -> Iterator[str]:
        for folder in self._folders:
            base = len(folder.parts)
            for root, folders, files in os.walk(folder):
                if len(Path(root).parts) - base >= _DEPTH:
                    folders.clear()
                yield from (str(Path(root, name)) for name in sorted(files) if _MARK in name)
