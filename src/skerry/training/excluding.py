"""What of an attempt is not charged: start-up, and what was lost or done again through our fault.

A supervisor runs as the customer's own user, so what it says is believed within bounds. What a lost node took with it
is counted here: all since the newest complete checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from skerry.compute.model import Attempt, Outcome
from skerry.db.database import Tx
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId, ProjectId
from skerry.training.model import Told

FREE: Final = timedelta(minutes=10)
"""Of each attempt so much may be excluded on its supervisor's word, and half of what it ran besides."""
NODE_LOST: Final = "node_lost"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Time that is not charged, as a supervisor saw it. `loss` says what it was lost to."""

    start: datetime
    end: datetime
    loss: str


class Corrections(Protocol):
    """What is needed of compute."""

    async def exclude(
        self, tx: Tx, project: ProjectId, attempt: AttemptId, key: str, start: datetime, end: datetime
    ) -> int: ...


class Excluding:
    def __init__(self, clock: Clock, corrections: Corrections) -> None:
        self._clock = clock
        self._corrections = corrections

    async def said(self, tx: Tx, attempt: Attempt, seq: int, lost: Sequence[Stretch], before: int) -> int:
        """On a supervisor's word. The accelerator-seconds that this takes off; `before`: those taken off earlier."""
        taken = 0
        for n, one in enumerate(lost):
            left = allowed(attempt, before + taken, self._clock.now())
            end = min(one.end, one.start + left)
            if end > one.start:
                key = f"{one.loss}-{seq}-{n}"
                taken += await self._corrections.exclude(tx, attempt.project, attempt.id, key, one.start, end)
        return taken

    async def lost(self, tx: Tx, attempt: Attempt, told: Told | None) -> int:
        """Of an attempt that a node took with it: what it did since its newest checkpoint, once."""
        since = lost_since(attempt, told)
        if since is None or attempt.ended_at is None:
            return 0
        return await self._corrections.exclude(tx, attempt.project, attempt.id, NODE_LOST, since, attempt.ended_at)


def allowed(attempt: Attempt, before: int, now: datetime) -> timedelta:
    """How much more of an attempt may be excluded on its supervisor's word: it cannot make a job free."""
    if attempt.ready_at is None or not attempt.accelerators:
        return timedelta(0)
    ran = max(timedelta(0), (attempt.ended_at or now) - attempt.ready_at)
    most = min(ran, FREE + ran / 2)
    return max(timedelta(0), most - timedelta(seconds=before / attempt.accelerators))


def lost_since(attempt: Attempt, told: Told | None) -> datetime | None:
    """Since when all that an attempt did was lost with it; None: nothing was."""
    if attempt.outcome is not Outcome.LOST or attempt.ready_at is None:
        return None
    saved = told.checkpoint_at if told is not None else None
    return max(attempt.ready_at, saved) if saved is not None else attempt.ready_at
