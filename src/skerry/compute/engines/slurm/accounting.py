"""What Slurm's accounting (slurmdbd) has of a job: asked only where neither its nodes nor `squeue` have said the end.

Skerry's own row is the record. Without slurmdbd, or while it does not answer, that is as exact as it gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from skerry.compute.engines.base import EngineUnavailable
from skerry.compute.engines.slurm.cli import SlurmCli, SlurmError
from skerry.compute.engines.slurm.parsing import Job

SACCT_FORMAT: Final = "JobID,State,Start,End,JobName"
_KIND: Final = "AccountingStorageType"
_KEEPER: Final = "accounting_storage/slurmdbd"
_AGAIN_SECONDS: Final = 300.0
"""Between looks whether there is accounting where there was none."""


@dataclass(frozen=True, slots=True)
class Accounted:
    """One run of a job. `end` None: it goes on, or its end is not known."""

    job: Job
    start: datetime | None
    end: datetime | None


def accounted(text: str) -> Sequence[Accounted]:
    """Of `sacct -D -X -P -n -o SACCT_FORMAT` with SLURM_TIME_FORMAT=%s: each run of a job, requeued ones too."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split("|", 4)
        if len(fields) == 5 and fields[0].isdigit():
            id, state, start, end, name = fields
            # "CANCELLED by 0" names the user who did it.
            found.append(Accounted(Job(int(id), state.partition(" ")[0], name), _time(start), _time(end)))
    return found


def has_keeper(config: str) -> bool:
    """Of `scontrol show config`: whether slurmdbd keeps the books."""
    values = dict(line.partition("=")[::2] for line in config.splitlines())
    return any(key.strip() == _KIND and value.strip() == _KEEPER for key, value in values.items())


class Accounting:
    """Found out, not set up."""

    def __init__(self, cli: SlurmCli) -> None:
        self._cli = cli
        self._kept = False
        self._ask_at = 0.0

    async def end_of(self, job: int) -> Accounted | None:
        """The newest run of this job, once it is over. None: not known, or nobody keeps the books."""
        try:
            if not await self._is_kept():
                return None
            text = await self._cli.run("sacct", "-D", "-X", "-P", "-n", "-j", str(job), "-o", SACCT_FORMAT)
        except (SlurmError, EngineUnavailable):
            return None
        runs = [one for one in accounted(text) if one.job.id == job]
        return runs[-1] if runs and runs[-1].job.over and runs[-1].end is not None else None

    async def _is_kept(self) -> bool:
        if not self._kept and monotonic() >= self._ask_at:
            self._kept = has_keeper(await self._cli.run("scontrol", "show", "config"))
            self._ask_at = monotonic() + _AGAIN_SECONDS
        return self._kept


def _time(text: str) -> datetime | None:
    """`Unknown` and `None` are none."""
    return datetime.fromtimestamp(int(text), UTC) if text.isdigit() else None
