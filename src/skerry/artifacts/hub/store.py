"""SQL of downloads: columns of `models` that nobody else writes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Any, Final

from sqlalchemy import or_

from skerry.artifacts.hub.rules import HubFile
from skerry.artifacts.model import Fetch, FetchState, ModelFacts
from skerry.artifacts.tables import models
from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Tx
from skerry.kernel.ids import ModelId

LEASE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What is to be downloaded for a model."""

    id: str
    """On the hub."""
    revision: str
    files: tuple[HubFile, ...]
    context_length: int | None = None
    """As the operator wished."""

    @property
    def total(self) -> int:
        return sum(file.size for file in self.files)

    def begun(self) -> dict[str, Any]:
        """Columns of a model that is yet to come."""
        return {"fetch_state": FetchState.DOWNLOADING.value, "download": self.to_json(), "due_at": None}

    def to_json(self, done: int = 0, code: str = "", message: str = "", failures: int = 0) -> dict[str, Any]:
        return {
            "id": self.id,
            "revision": self.revision,
            "files": [file.to_json() for file in self.files],
            "context_length": self.context_length,
            "done": done,
            "total": self.total,
            "code": code,
            "message": message,
            "failures": failures,
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "FetchPlan":
        files = tuple(HubFile.of(one) for one in value["files"])
        return cls(value["id"], value["revision"], files, value["context_length"])


@dataclass(frozen=True, slots=True)
class Job:
    """A model whose files are to come, or to go."""

    model: ModelId
    location: str
    license: str | None
    plan: FetchPlan
    removed: bool
    failures: int
    lease: str


def fetch_of(state: str | None, value: Mapping[str, Any]) -> Fetch | None:
    if state is None:
        return None
    return Fetch(FetchState(state), value["revision"], value["done"], value["total"], value["code"], value["message"])


class FetchStore:
    async def claim(self, tx: Tx, limit: int, now: datetime) -> Sequence[Job]:
        """Downloads that are due, and the files of models that were removed."""
        coming = (models.c.fetch_state == FetchState.DOWNLOADING.value) & models.c.removed_at.is_(None)
        going = models.c.fetch_state.is_not(None) & (models.c.fetch_state != FetchState.GONE.value)
        rows = await claim_rows(
            tx,
            models,
            where=or_(coming, going & models.c.removed_at.is_not(None))
            & or_(models.c.due_at.is_(None), models.c.due_at <= now),
            order_by=[models.c.id],
            limit=limit,
            lease_seconds=LEASE_SECONDS,
            now=now,
        )
        return [
            Job(
                ModelId(row.id), row.location, row.license, FetchPlan.of(row.download), row.removed_at is not None,
                row.download["failures"], row.lease_token,
            )
            for row in rows
        ]  # fmt: skip

    async def progress(
        self, tx: Tx, job: Job, *, done: int, code: str, message: str, failures: int, due_in: float, now: datetime
    ) -> bool:
        """False where the lease was lost."""
        value = job.plan.to_json(done, code, message, failures)
        due = now + timedelta(seconds=due_in)
        return await guarded_update(tx, models, job.model, job.lease, {"download": value, "due_at": due})

    async def end(
        self, tx: Tx, job: Job, state: FetchState, *, code: str = "", message: str = "", **values: Any
    ) -> bool:
        """False where the lease was lost. `values`: other columns of the model."""
        done = job.plan.total if state is FetchState.DONE else 0
        value = job.plan.to_json(done, code, message, job.failures)
        return await guarded_update(
            tx, models, job.model, job.lease, {"download": value, "fetch_state": state.value, "due_at": None, **values}
        )


def stored(facts: ModelFacts) -> dict[str, Any]:
    return {name: value for name, value in asdict(facts).items() if value is not None}


def weights_path(folder: PurePath, files: Sequence[HubFile]) -> str:
    """The GGUF file, or the folder with the checkpoint."""
    gguf = next((file.name for file in files if file.name.endswith(".gguf")), None)
    return str(folder / gguf if gguf else folder)
