"""Checkpoints where nodes share no folder: fetched before the start, sent away as they become complete.

A process beside the command does it, as the project's user. What is complete only the node with `step_<n>/.metadata`
sees: it is written when all ranks have written theirs. That node says so in `step_<n>/.written`; each node then sends
its files and `step_<n>/.sent-<node>`. A checkpoint that has these of all nodes can be started from, and no other.
"""

import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from skerry.compute.task.calling import Api, Away, Refused, patiently
from skerry.compute.task.ends import CannotRun
from skerry.compute.task.order import MountOrder, ProjectUser
from skerry.compute.task.users import become

KEPT: Final = 2
"""Complete checkpoints that stay with the control plane."""
_METADATA: Final = ".metadata"
_WRITTEN: Final = ".written"
_SENT: Final = ".sent-"
_STEP: Final = re.compile(r"step_(\d{1,12})")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._=+@-]{1,200}")
_LOOK_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 120.0
_PIECE: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1


class Exchange:
    """Of one task. `bring` before the start, `begin` with it, `finish` after the end."""

    def __init__(self, mount: MountOrder | None, api: Api, user: ProjectUser | None, nodes: int, node: int) -> None:
        self._user = user
        self._courier = Courier(Path(mount.path), api, nodes, node) if mount is not None else None
        self._child = 0

    @classmethod
    def of(cls, mounts: Sequence[MountOrder], api: Api, user: ProjectUser | None) -> "Exchange":
        """Of several tasks on a node the first one sends."""
        mount = next((one for one in mounts if one.exchanged), None)
        tasks, nodes = _number("SKERRY_TASKS", 1), _number("SKERRY_NODES", 1)
        each, rank = max(1, tasks // nodes), _number("SKERRY_RANK", 0)
        return cls(mount if rank % each == 0 else None, api, user, nodes, rank // each)

    def bring(self) -> None:
        """The newest one that can be started from, where this node lacks it. Raises CannotRun."""
        if self._courier is None:
            return
        child = self._fork(self._courier.bring)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise CannotRun("the checkpoint to go on from could not be fetched: see the line above", None)

    def begin(self) -> None:
        if self._courier is not None:
            self._child = self._fork(self._courier.work)

    def finish(self) -> None:
        """Send what is left. It takes as long as it takes: whoever has no time for it kills us."""
        if self._child:
            with suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)
            os.waitpid(self._child, 0)

    def _fork(self, act: object) -> int:
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.setpgid(0, 0)  # a signal for the command is none for us: it may have something to write yet
            become(self._user)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            assert callable(act)
            act()
            code = 0
        except BaseException as error:
            sys.stderr.write(f"skerry: checkpoints: {type(error).__name__}: {error}\n")
            sys.stderr.flush()
        finally:
            os._exit(code)


class Courier:
    """Looks at the folder and carries. `node` of `nodes`."""

    def __init__(self, folder: Path, api: Api, nodes: int, node: int) -> None:
        self._folder = folder
        self._api = api
        self._nodes = nodes
        self._node = node
        self._sent: set[int] = set()
        self._ending = False

    def bring(self) -> None:
        """Raises Refused, Away, OSError."""
        there = self.listed()
        complete = self.complete(there)
        if not complete:
            return
        newest = max(complete)
        if newest <= max(self._local_complete(), default=-1):
            return
        wanted = sorted(path for path in there if path.startswith(f"step_{newest}/") and not _is_ours(path))
        # What tells that it is complete comes last, and all of it under another name until then.
        wanted.sort(key=lambda path: path.endswith(f"/{_METADATA}"))
        for path in wanted:
            self._fetch(path, there[path])
        sys.stderr.write(f"skerry: checkpoint step_{newest} was fetched\n")

    def work(self) -> None:
        """Until SIGTERM, and then what is left."""
        signal.signal(signal.SIGTERM, self._end)
        while True:
            last = self._ending
            with suppress(Away, Refused, OSError):
                self.look()
                last = last and self._nothing_left()
            if last:
                return
            if self._ending:
                time.sleep(0.2)
                if time.monotonic() > self._deadline:
                    return
            else:
                time.sleep(_LOOK_SECONDS)  # a signal ends it early

    def look(self) -> None:
        """Send what has become complete. Raises Refused, Away, OSError."""
        mine = self._local_complete()
        there = self.listed() if self._candidates() else {}
        for step in sorted(mine):
            if f"step_{step}/{_WRITTEN}" not in there:
                self._put(f"step_{step}/{_WRITTEN}", b"")
                there[f"step_{step}/{_WRITTEN}"] = 0
        for step in self._candidates():
            if f"step_{step}/{_WRITTEN}" in there:
                self._send(step, there)
        if mine:
            self._tidy(there)

    def listed(self) -> dict[str, int]:
        """Path → bytes, of what the control plane has."""
        answer = patiently(lambda: self._api.call("GET", "artifacts?prefix=step_"), _PATIENCE_SECONDS)
        return {one["path"]: one["bytes"] for one in answer["data"]}

    def complete(self, there: Iterable[str]) -> set[int]:
        """Steps that can be started from."""
        paths = set(there)
        steps = {step for path in paths if (step := _step(path)) is not None}
        marks = [_METADATA, _WRITTEN, *(f"{_SENT}{node}" for node in range(self._nodes))]
        return {step for step in steps if all(f"step_{step}/{mark}" in paths for mark in marks)}

    def _nothing_left(self) -> bool:
        return self._local_complete() <= self._sent

    def _end(self, *_: object) -> None:
        self._ending = True
        self._deadline = time.monotonic() + _PATIENCE_SECONDS

    def _candidates(self) -> list[int]:
        """Newest first: an older one that was not sent yet is of less use."""
        found = [step for name in _names(self._folder) if (step := _step(f"{name}/")) is not None]
        return sorted((step for step in found if step not in self._sent), reverse=True)

    def _local_complete(self) -> set[int]:
        steps = [step for name in _names(self._folder) if (step := _step(f"{name}/")) is not None]
        return {step for step in steps if (self._folder / f"step_{step}" / _METADATA).is_file()}

    def _send(self, step: int, there: dict[str, int]) -> None:
        folder = self._folder / f"step_{step}"
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
        files.sort(key=lambda path: path.name == _METADATA)
        for path in files:
            name = f"step_{step}/{path.relative_to(folder)}"
            if all(_SEGMENT.fullmatch(part) for part in name.split("/")) and there.get(name) != path.stat().st_size:
                self._send_file(name, path)
                there[name] = path.stat().st_size
        self._put(f"step_{step}/{_SENT}{self._node}", b"")
        there[f"step_{step}/{_SENT}{self._node}"] = 0
        self._sent.add(step)

    def _send_file(self, name: str, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            size, offset = os.fstat(fd).st_size, 0
            while True:
                data = file.read(_PIECE)
                last = offset + len(data) >= size
                patiently(lambda at=offset, part=data, end=last: self._put(name, part, at, last=end), _PATIENCE_SECONDS)  # type: ignore[misc]
                offset += len(data)
                if last:
                    return

    def _put(self, name: str, data: bytes, offset: int = 0, *, last: bool = True) -> None:
        path = f"artifacts/{name}?offset={offset}&last={int(last)}"
        with self._api.open("PUT", path, data, {"content-type": "application/octet-stream"}) as answer:
            answer.read()

    def _fetch(self, name: str, size: int) -> None:
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and target.stat().st_size == size:
            return
        part = target.with_name(f".{target.name}.part")

        def rest() -> None:
            with part.open("ab") as file:
                at = file.tell()
                if at < size:
                    headers = {"range": f"bytes={at}-"}
                    with self._api.open("GET", f"artifacts/{name}", headers=headers) as answer:
                        while piece := answer.read(_PIECE):
                            file.write(piece)
                if file.tell() != size:
                    raise Away(f"{name} broke off")

        part.unlink(missing_ok=True)
        patiently(rest, _PATIENCE_SECONDS)
        part.rename(target)

    def _tidy(self, there: dict[str, int]) -> None:
        for step in sorted(self.complete(there), reverse=True)[KEPT:]:
            with self._api.open("DELETE", f"artifacts/step_{step}") as answer:
                answer.read()


def _step(path: str) -> int | None:
    match = _STEP.fullmatch(path.partition("/")[0])
    return int(match[1]) if match is not None and "/" in path else None


def _is_ours(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name == _WRITTEN or name.startswith(_SENT)


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except OSError:
        return []


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else otherwise
