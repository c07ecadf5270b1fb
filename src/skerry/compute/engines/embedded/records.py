"""What the agent must know again after its own death: a small JSON file for each gang and for each rank.

Files are replaced whole, so that one is either as it was or as it is. Secrets and environments are not in them.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from skerry.compute.engines.base import Limits, NodeReservation, Placement, RankEnd
from skerry.compute.engines.embedded.cgroups import Group
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId

T = TypeVar("T")

_GANG: Final = "gang.json"
_DRAINED: Final = "drained.json"
_RESERVED: Final = "reserved.json"
_RANK: Final = "state.json"
_ID: Final = re.compile(r"[a-z]{2,8}_[0-9a-z]{1,64}")


@dataclass(slots=True)
class GangRecord:
    """What is to be known of a gang. `cancelled_at` is set once it is to end, `forgotten_at`
    once its end is on record elsewhere."""

    attempt: AttemptId
    created_at: datetime
    workload: WorkloadId | None = None
    """None: it was cancelled before it was ever submitted."""
    project: ProjectId | None = None
    placements: tuple[Placement, ...] = ()
    command: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    grace_seconds: float = 10.0
    cancelled_at: datetime | None = None
    forgotten_at: datetime | None = None


@dataclass(slots=True)
class RankRecord:
    """`pid` None: it was about to be started. With `boot` and `start_ticks` the pid is unique."""

    attempt: AttemptId
    rank: int
    node: str
    boot: str
    pid: int | None = None
    start_ticks: int = 0
    started_at: datetime | None = None
    group: Group | None = None
    report: Mapping[str, Any] | None = None
    end: RankEnd | None = None


def is_attempt_id(text: str) -> bool:
    """Ids become names of folders."""
    return _ID.fullmatch(text) is not None


class StateFolder:
    """`ATTEMPT/gang.json`, `ATTEMPT-RANK/state.json`, `drained.json`, `reserved.json`; `alive` is touched while the
    agent lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save_gang(self, record: GangRecord) -> None:
        self._write(self.folder / record.attempt / _GANG, record)

    def save_rank(self, record: RankRecord) -> None:
        self._write(self.folder / f"{record.attempt}-{record.rank}" / _RANK, record)

    def gangs(self) -> Iterator[GangRecord]:
        for path in sorted(self.folder.glob(f"*/{_GANG}")):
            if (record := self._read(path, GangRecord)) is not None:
                yield record

    def ranks(self) -> Iterator[RankRecord]:
        for path in sorted(self.folder.glob(f"*/{_RANK}")):
            if (record := self._read(path, RankRecord)) is not None:
                yield record

    def drop_gang(self, attempt: AttemptId) -> None:
        shutil.rmtree(self.folder / attempt, ignore_errors=True)

    def drop_rank(self, attempt: AttemptId, rank: int) -> None:
        shutil.rmtree(self.folder / f"{attempt}-{rank}", ignore_errors=True)

    def save_drained(self, drained: Mapping[str, str]) -> None:
        """Node → reason."""
        self._write(self.folder / _DRAINED, dict(drained))

    def drained(self) -> dict[str, str]:
        return self._read(self.folder / _DRAINED, dict[str, str]) or {}

    def save_reservations(self, reservations: Sequence[NodeReservation]) -> None:
        self._write(self.folder / _RESERVED, list(reservations))

    def reservations(self) -> Sequence[NodeReservation]:
        return self._read(self.folder / _RESERVED, list[NodeReservation]) or []

    def touch_alive(self) -> None:
        alive = self.folder / "alive"
        alive.touch()
        os.utime(alive)

    def last_alive(self) -> float | None:
        """Unix time at which an agent last was alive here."""
        try:
            return (self.folder / "alive").stat().st_mtime
        except FileNotFoundError:
            return None

    def _write(self, path: Path, value: object) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        draft = path.with_suffix(".new")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(value))
        draft.rename(path)

    def _read(self, path: Path, kind: type[T]) -> T | None:
        """None where it is missing or (disk full, another version) cannot be read: then it is treated as unknown."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
