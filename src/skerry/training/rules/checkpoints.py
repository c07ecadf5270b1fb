"""Which checkpoint is the newest one that can be trusted.

A checkpoint of `torch.distributed.checkpoint` is a folder `step_<n>`, and complete once `.metadata` is in it: that is
written last. The highest number alone says nothing. Whoever saves with plain `torch.save` follows their own convention
and finds their files themselves.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

METADATA: Final = ".metadata"
_NAME: Final = re.compile(r"step_(\d{1,15})\Z")
_SHARD: Final = re.compile(r"__\d+_\d+\.distcp\Z|\.metadata\.tmp\Z")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder below the checkpoint folder, with the names of what is in it."""

    name: str
    files: tuple[str, ...]

    @property
    def step(self) -> int | None:
        match = _NAME.match(self.name)
        return int(match[1]) if match else None

    @property
    def complete(self) -> bool:
        return METADATA in self.files


def newest_complete(folders: Iterable[Folder]) -> Folder | None:
    complete = [folder for folder in folders if folder.step is not None and folder.complete]
    return max(complete, key=lambda folder: folder.step or 0, default=None)


def abandoned(folders: Iterable[Folder]) -> list[Folder]:
    """What no rank will ever finish, given that none runs: unfinished, with nothing in it but shards of a checkpoint.
    A folder with anything else in it is somebody's, and stays.
    """
    return [
        folder
        for folder in folders
        if folder.step is not None and not folder.complete and all(_SHARD.match(name) for name in folder.files)
    ]
