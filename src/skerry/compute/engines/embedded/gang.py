"""A gang: the tasks of one attempt, which start together and end together."""

import asyncio
from dataclasses import dataclass, field

from skerry.compute.engines.base import EndCause, GangState, GangStatus, RankEnd
from skerry.compute.engines.embedded import ending
from skerry.compute.engines.embedded.records import GangRecord
from skerry.compute.engines.embedded.task import Task
from skerry.compute.model import Outcome


@dataclass(slots=True)
class Gang:
    """Its tasks by rank; `ending` once it was told to end."""

    record: GangRecord
    tasks: dict[int, Task] = field(default_factory=dict)
    escalation: asyncio.Task[None] | None = None
    """Kills what is left when the grace period is over."""
    ending: bool = False

    @property
    def live(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.record.end is None]

    @property
    def ended(self) -> bool:
        return not self.live

    @property
    def ref(self) -> str:
        node = self.record.placements[0].node if self.record.placements else "none"
        return f"{node}/{self.record.attempt}"

    def begin_to_end(self, cause: EndCause, grace_seconds: float) -> None:
        """SIGTERM to all that live, SIGKILL to those that still do `grace_seconds` later. May be called again."""
        self.ending = True
        for task in self.live:
            task.ask_to_end(cause)
        self.stop_escalation()
        if self.live:
            self.escalation = asyncio.get_running_loop().create_task(self._kill_later(grace_seconds))

    def stop_escalation(self) -> None:
        if self.escalation is not None:
            self.escalation.cancel()
            self.escalation = None

    def state(self) -> GangState:
        return GangState(
            attempt=self.record.attempt,
            status=self._status(),
            ref=self.ref,
            ranks=tuple(self.tasks[rank].state() for rank in sorted(self.tasks)),
            end=self._end(),
        )

    def _status(self) -> GangStatus:
        if self.ended:
            return GangStatus.ENDED
        return GangStatus.STOPPING if self.ending else GangStatus.RUNNING

    def _end(self) -> RankEnd | None:
        if not self.ended:
            return None
        ends = [task.record.end for task in self.tasks.values() if task.record.end is not None]
        if not ends:
            at = self.record.cancelled_at or self.record.created_at
            return RankEnd(EndCause.CANCELLED, Outcome.CANCELLED, at, message="it was cancelled before it was started")
        return ending.decisive(ends)

    async def _kill_later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        for task in self.live:
            task.kill()
