"""What the nodes have written of an attempt, and whether they still give signs of life.

A sign of life is a change: clocks of nodes and of the shared folder are not compared with ours.
"""

from time import monotonic

from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.compute.engines.slurm.jobs import Snapshot
from skerry.compute.engines.slurm.layout import AttemptFolder
from skerry.compute.engines.slurm.ledger import JobRecord
from skerry.compute.engines.slurm.parsing import Job
from skerry.compute.engines.slurm.states import Sight
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId

_UNTOLD = "PENDING"


class Sightings:
    """Remembers when each node of each attempt was last seen to move."""

    def __init__(self, config: SlurmConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._moved: dict[AttemptId, dict[str, tuple[int, float]]] = {}
        self._silenced: dict[AttemptId, set[str]] = {}

    def of(self, record: JobRecord, snapshot: Snapshot | None, folder: AttemptFolder) -> Sight:
        alive = self._alive(folder)  # before the ranks: who has left since has written them
        ranks = folder.ranks()
        job = _job(record, snapshot)
        mute = job is not None and job.over and len([one for one in ranks.values() if one.end]) < len(record.places)
        return Sight(
            record=record,
            job=job,
            ranks=ranks,
            log_bytes={rank: folder.log(rank).size() for rank in ranks},
            alive=alive,
            last_words=folder.last_words() if mute else "",
            at=self._clock.now(),
        )

    def silence(self, attempt: AttemptId, node: str) -> None:
        """It was proved that nothing of it runs on that node: what its runner last wrote is no sign of life."""
        self._silenced.setdefault(attempt, set()).add(node)

    def forget(self, attempt: AttemptId) -> None:
        self._moved.pop(attempt, None)
        self._silenced.pop(attempt, None)

    def _alive(self, folder: AttemptFolder) -> bool:
        now = monotonic()
        before = self._moved.get(folder.attempt, {})
        moved = {}
        for node, stamp in folder.alive().items():
            if node in self._silenced.get(folder.attempt, ()):
                continue
            seen = before.get(node)
            moved[node] = seen if seen is not None and seen[0] == stamp else (stamp, now)
        self._moved[folder.attempt] = moved
        return any(now - at < self._config.silent_seconds for _, at in moved.values())


def _job(record: JobRecord, snapshot: Snapshot | None) -> Job | None:
    """A job that the snapshot is too old to know counts as queued."""
    if snapshot is None or record.job is None:
        return None if record.cancelled_at is not None else Job(record.job or 0, _UNTOLD, "")
    found = snapshot.jobs.get(record.job)
    if found is None and not snapshot.can_tell(record.job):
        return Job(record.job, _UNTOLD, "")
    return found
