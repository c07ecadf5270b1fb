"""One file of a repository, onto the disk: taken up where it broke off, verified as it comes, whole or not there."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from skerry.artifacts.errors import HubUnreachable
from skerry.artifacts.hub.client import Hub, read_some
from skerry.artifacts.hub.rules import HubFile

_CHUNK: Final = 1024**2
_PART: Final = ".part"


class WrongContent(Exception):
    """What came is not what the hub said would come. The message says how."""


class NoRoom(Exception):
    """The disk has not the room, with what is to be kept free."""


class Busy(Exception):
    """Another process writes this very file."""


class Download:
    """Of the files of one model, below `folder`. It remembers checksums of what it has begun, so that taking a file
    up again need not read all of it; after a restart it does."""

    def __init__(self, hub: Hub, folder: Path, keep_free: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub, self._folder, self._keep_free, self._clock = hub, folder, keep_free, clock
        self._begun: dict[str, tuple[Any, int]] = {}

    def have(self, file: HubFile) -> int:
        """Bytes of it that are there."""
        whole, part = self._paths(file)
        if whole.exists():
            return file.size
        return min(part.stat().st_size, file.size) if part.exists() else 0

    def run(self, id: str, commit: str, file: HubFile, until: float) -> bool:
        """Go on with it until the clock says `until`. True: it is whole.

        Raises HubUnreachable, HubForbids, UnknownHubModel, WrongContent, NoRoom, Busy, OSError.
        """
        whole, part = self._paths(file)
        if whole.exists():
            return True
        whole.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a+b") as output:
            try:
                fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"{part} is written by another process") from error
            done = self._take_up(output, file)
            self._require_room(file.size - done.offset)
            if done.offset < file.size and not self._stream(id, commit, file, output, done, until):
                self._begun[file.name] = (done.digest, done.offset)
                return False
            self._finish(file, output, done, part, whole)
        return True

    def _stream(self, id: str, commit: str, file: HubFile, output: Any, done: "_Done", until: float) -> bool:
        with self._hub.file(id, commit, file.name, done.offset) as (answer, offset):
            if offset != done.offset:
                done.restart(output, file)
            while done.offset <= file.size:
                data = read_some(answer, _CHUNK)
                if not data:
                    break
                output.write(data)
                done.add(data)
                if self._clock() > until:
                    output.flush()
                    return done.offset >= file.size
        output.flush()
        if done.offset < file.size:
            self._begun[file.name] = (done.digest, done.offset)
            raise HubUnreachable(f"the hub broke off after {done.offset} of {file.size} bytes of {file.name}")
        return True

    def _finish(self, file: HubFile, output: Any, done: "_Done", part: Path, whole: Path) -> None:
        self._begun.pop(file.name, None)
        wrong = done.offset != file.size or not done.right(file)
        if wrong:
            part.unlink()
            raise WrongContent(f"{file.name} is not what the hub said it would be: its checksum or size differs")
        output.flush()
        os.fsync(output.fileno())
        part.replace(whole)

    def _take_up(self, output: Any, file: HubFile) -> "_Done":
        size = output.seek(0, os.SEEK_END)
        digest, offset = self._begun.pop(file.name, (None, 0))
        done = _Done(_digest_for(file) if digest is None else digest, offset)
        if offset > size or size > file.size:
            done.restart(output, file)
            return done
        output.seek(offset)
        while data := output.read(_CHUNK):
            done.add(data)
        return done

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < needed + self._keep_free:
            raise NoRoom(f"{needed} bytes are to come, and the disk has {free}, of which {self._keep_free} stay free")

    def _paths(self, file: HubFile) -> tuple[Path, Path]:
        whole = self._folder / file.name
        if not whole.resolve().is_relative_to(self._folder.resolve()):
            raise WrongContent(f"{file.name!r} leads out of the model's folder")
        return whole, whole.with_name(whole.name + _PART)


class _Done:
    """What has come of a file, and its checksum so far."""

    def __init__(self, digest: Any, offset: int) -> None:
        self.digest, self.offset = digest, offset

    def add(self, data: bytes) -> None:
        self.digest.update(data)
        self.offset += len(data)

    def restart(self, output: Any, file: HubFile) -> None:
        output.truncate(0)
        self.digest, self.offset = _digest_for(file), 0

    def right(self, file: HubFile) -> bool:
        """A file of which the hub gives no checksum has the right size at least."""
        wanted = file.sha256 or file.sha1
        return wanted is None or self.digest.hexdigest() == wanted


def _digest_for(file: HubFile) -> Any:
    if file.sha256 is not None:
        return hashlib.sha256()
    # What git calls a blob: the header with the size comes first.
    return hashlib.sha1(b"blob %d\x00" % file.size, usedforsecurity=False)
