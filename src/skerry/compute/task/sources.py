"""The archive: downloaded once to a node, checked, and unpacked by the project's own user."""

import fcntl
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from skerry.artifacts.archives import UnsafeArchive, unpack
from skerry.compute.task.calling import Api, Away, Refused, patiently
from skerry.compute.task.ends import BAD_SOURCE, CannotRun
from skerry.compute.task.order import ProjectUser, SourceOrder
from skerry.compute.task.users import become

_FOLDER: Final = ".sources"
_PATIENCE_SECONDS: Final = 300.0
_KEPT_SECONDS: Final = 24 * 3600.0
_PIECE: Final = 1 << 20


def bring(order: SourceOrder, target: Path, near: Path, api: Api, user: ProjectUser | None) -> None:
    """Unpacked in `target`. Archives are kept below `near` for a day, by their content: ranks of a node, and attempts
    that follow, share them. Raises CannotRun."""
    folder = near / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    _forget_old(folder)
    # By user too: whoever knows a digest does not thereby have the file.
    path = folder / f"{order.sha256}-{user.uid if user is not None else os.getuid()}"
    with _locked(path.with_suffix(".lock")):
        if not (path.exists() and _digest(path) == order.sha256):
            _download(order, path, api)
        os.utime(path)
    _unpack(path, target, user)


def _download(order: SourceOrder, path: Path, api: Api) -> None:
    part = path.with_suffix(".part")
    try:
        for _ in range(2):
            patiently(lambda: _rest(order, part, api), _PATIENCE_SECONDS)
            if _digest(part) == order.sha256:
                part.rename(path)
                return
            part.unlink()  # perhaps the start was another try's, and spoilt
    except Refused as error:
        raise CannotRun(f"the source {order.id} is not to be had: {error}", BAD_SOURCE) from error
    except Away as error:
        raise CannotRun(f"the source {order.id} could not be downloaded: {error}", None) from error
    except OSError as error:
        raise CannotRun(f"the source {order.id} could not be stored: {error}", None) from error
    raise CannotRun(f"the source {order.id} came with other bytes than those that were uploaded", None)


def _rest(order: SourceOrder, part: Path, api: Api) -> None:
    """From where the last try stopped. Raises Away where this one stops too."""
    with part.open("ab") as file:
        begin = file.tell()
        if begin >= order.bytes:
            return
        headers = {"range": f"bytes={begin}-"} if begin else {}
        with api.open("GET", "source", headers=headers) as answer:
            if begin and answer.status != 206:
                file.truncate(0)
                begin = 0
            left = order.bytes - begin
            while left > 0 and (piece := answer.read(min(_PIECE, left))):
                file.write(piece)
                left -= len(piece)
    if left > 0:
        raise Away("the download broke off")


def _unpack(path: Path, target: Path, user: ProjectUser | None) -> None:
    """In a child that is the project's user already: nothing of the archive is touched by root."""
    with path.open("rb") as file:
        child = os.fork()
        if child == 0:
            os._exit(_unpack_as(user, file.fileno(), target))
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == BAD_SOURCE:
        raise CannotRun("the source cannot be unpacked: see the line above", BAD_SOURCE)
    if code != 0:
        raise CannotRun(f"the source could not be unpacked (code {code}): see the line above", None)


def _unpack_as(user: ProjectUser | None, fd: int, target: Path) -> int:
    try:
        become(user)
        with os.fdopen(fd, "rb", closefd=False) as file:
            unpack(file, target)
    except UnsafeArchive as error:
        _say(f"{error} ({error.danger.value})")
        return BAD_SOURCE
    except BaseException as error:
        _say(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget_old(folder: Path) -> None:
    """Locks stay: another may wait for one. They are empty."""
    oldest = time.time() - _KEPT_SECONDS
    for entry in os.scandir(folder):
        with suppress(OSError):
            if not entry.name.endswith(".lock") and entry.stat().st_mtime < oldest:
                Path(entry.path).unlink()


def _say(words: str) -> None:
    sys.stderr.write(f"skerry: {words}\n")
    sys.stderr.flush()
