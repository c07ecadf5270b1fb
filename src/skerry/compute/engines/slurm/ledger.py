"""What the engine must know again after its own death: one small file for each attempt."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from skerry.compute.engines.base import GangState
from skerry.kernel.ids import AttemptId


@dataclass(slots=True)
class JobRecord:
    """`places`: the node of each rank. `job` None: not handed over, or it is not known whether it was."""

    attempt: AttemptId
    created_at: datetime
    places: tuple[str, ...] = ()
    job: int | None = None
    grace_seconds: float = 10.0
    cancelled_at: datetime | None = None
    fenced: str = ""
    """Why a node was fenced while it ran there."""
    final: GangState | None = None
    """How it ended; from then on nothing is looked at any more."""
    forgotten_at: datetime | None = None

    @property
    def live(self) -> bool:
        return self.final is None and self.forgotten_at is None


class Ledger:
    """`ATTEMPT.json` in a folder of the engine's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, record: JobRecord) -> None:
        path = self._folder / f"{record.attempt}.json"
        draft = path.with_suffix(".new")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(record))
        draft.rename(path)

    def drop(self, attempt: AttemptId) -> None:
        (self._folder / f"{attempt}.json").unlink(missing_ok=True)

    def records(self) -> Iterator[JobRecord]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=JobRecord)
            except (FileNotFoundError, msgspec.DecodeError):
                continue
