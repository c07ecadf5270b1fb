"""An attempt's folder, which engine and nodes share, and the small files in it by which they speak.

Files are replaced whole: one is either as it was or as it is. `order.json` has the secrets and the environment; it is
readable for its owner alone, and goes when the attempt has ended.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from skerry.compute.engines.base import EndCause, GangSpec
from skerry.compute.engines.embedded.logfile import LogFile
from skerry.compute.engines.embedded.records import RankRecord
from skerry.compute.engines.embedded.users import RunAs
from skerry.kernel.ids import AttemptId

T = TypeVar("T")

_LOGS: Final = "logs"
_WORDS_MAX: Final = 500
_KEPT: Final = frozenset({_LOGS})


@dataclass(frozen=True, slots=True)
class Order:
    """What the nodes are to do. By node: whether its accelerators are cores (`shared`), where others reach it."""

    gang: GangSpec
    mark: str
    work: str
    shared: Mapping[str, bool]
    addresses: Mapping[str, str] = field(default_factory=dict)
    run_as: RunAs | None = None
    cgroups: bool = True
    log_bytes: int = 8 << 20
    log_parts: int = 4


@dataclass(frozen=True, slots=True)
class Stop:
    """Why and how gently it is to end."""

    cause: EndCause
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """`path` need not exist yet."""

    path: Path
    log_bytes: int = 8 << 20
    log_parts: int = 4

    @property
    def attempt(self) -> AttemptId:
        return AttemptId(self.path.name)

    def make(self, order: Order) -> None:
        for name in ("", "ranks", "ready", "alive", "signals", _LOGS):
            (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write("order.json", order)

    def order(self) -> Order | None:
        return self._read("order.json", Order)

    def close(self) -> None:
        """It has ended: what it was ordered with, secrets included, is not needed any more."""
        (self.path / "order.json").unlink(missing_ok=True)

    def forget(self) -> None:
        """Keep the logs only."""
        for entry in list(self.path.iterdir()) if self.path.is_dir() else []:
            if entry.name in _KEPT:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    def last_words(self) -> str:
        """The last line that its job wrote: why a runner could not run."""
        try:
            with (self.path / "runner.log").open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _WORDS_MAX))
                lines = file.read().decode(errors="replace").split("\n")
        except FileNotFoundError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def log(self, rank: int) -> LogFile:
        return LogFile(self.path / _LOGS / str(rank), max_bytes=self.log_bytes, keep=self.log_parts)

    # Which job has it

    def claim(self, job: int) -> bool:
        """Whether it is this job's: the first to come has it for good, so that a second submit runs nothing."""
        draft = self.path / f"claim.{job}.{os.getpid()}"
        draft.write_text(str(job))
        try:
            os.link(draft, self.path / "claim")
        except FileExistsError:
            return self.claimed_by() == job
        finally:
            draft.unlink(missing_ok=True)
        return True

    def claimed_by(self) -> int | None:
        try:
            return int((self.path / "claim").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None

    # From nodes to the engine, and among nodes

    def save_rank(self, record: RankRecord) -> None:
        self._write(f"ranks/{record.rank}.json", record)

    def ranks(self) -> dict[int, RankRecord]:
        folder = self.path / "ranks"
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        found = (self._read(f"ranks/{name}", RankRecord) for name in names if name.endswith(".json"))
        return {record.rank: record for record in found if record is not None}

    def has_started(self, node: str) -> bool:
        return any(record.node == node for record in self.ranks().values())

    def say_ready(self, node: str, problem: str) -> None:
        """`problem`: why its tasks cannot be started; empty: they can."""
        self._write(f"ready/{node}", problem)

    def ready(self) -> dict[str, str]:
        names = [entry.name for entry in (self.path / "ready").iterdir() if not entry.name.endswith(".new")]
        return {name: text for name in names if (text := self._read(f"ready/{name}", str)) is not None}

    def touch_alive(self, node: str) -> None:
        alive = self.path / "alive" / node
        alive.touch(mode=0o600)
        os.utime(alive)

    def leave(self, node: str) -> None:
        (self.path / "alive" / node).unlink(missing_ok=True)

    def alive(self) -> dict[str, int]:
        """Node → when its runner last gave a sign of life, by the file system's clock; without those that have left."""
        found = {}
        folder = self.path / "alive"
        for entry in folder.iterdir() if folder.is_dir() else []:
            try:
                found[entry.name] = entry.stat().st_mtime_ns
            except FileNotFoundError:
                continue
        return found

    def say_peer_ended(self) -> None:
        (self.path / "peer-ended").touch(mode=0o600)

    def peer_ended(self) -> bool:
        return (self.path / "peer-ended").exists()

    # From the engine to nodes

    def say_stop(self, stop: Stop) -> None:
        self._write("stop.json", stop)

    def stop(self) -> Stop | None:
        return self._read("stop.json", Stop)

    def say_signal(self, number: int) -> None:
        folder = self.path / "signals"
        self._write(f"signals/{len(list(folder.iterdir())):06d}", number)

    def signals(self) -> dict[str, int]:
        """In the order in which they were asked for."""
        folder = self.path / "signals"
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        found = ((name, self._read(f"signals/{name}", int)) for name in names if not name.endswith(".new"))
        return {name: number for name, number in found if number is not None}

    def _write(self, name: str, value: object) -> None:
        path = self.path / name
        draft = path.with_name(f"{path.name}.new")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(value))
        draft.rename(path)

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None
