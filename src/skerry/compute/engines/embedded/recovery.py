"""After the agent's own death: know all gangs again, adopt the tasks that live, end those that nobody knows."""

from datetime import UTC, datetime

import structlog

from skerry.compute.engines.base import EndCause
from skerry.compute.engines.embedded import ending, processes
from skerry.compute.engines.embedded.ending import Evidence
from skerry.compute.engines.embedded.gang import Gang
from skerry.compute.engines.embedded.processes import MarkedProcess
from skerry.compute.engines.embedded.records import RankRecord
from skerry.compute.engines.embedded.roster import LOGGER, Roster
from skerry.compute.engines.embedded.task import Task
from skerry.compute.model import Outcome


class Recovery:
    """Done once before the first call; its sweep for strays is done again now and then."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._log = structlog.get_logger(LOGGER)

    def recover(self) -> None:
        found = {
            (process.attempt, process.rank): process
            for process in processes.marked_processes(self._roster.config.mark)
            if process.stat.session == process.stat.pid  # a task is the leader of its session
        }
        for record in self._roster.state.gangs():
            self._roster.gangs[record.attempt] = Gang(record)
        for rank in self._roster.state.ranks():
            gang = self._roster.gangs.get(rank.attempt)
            if gang is None or gang.record.forgotten_at is not None:
                self._roster.state.drop_rank(rank.attempt, rank.rank)
                continue
            self._recover_rank(gang, rank, found.get((rank.attempt, rank.rank)))
        for gang in self._roster.gangs.values():
            if gang.record.forgotten_at is None:
                self._complete(gang)
                self._take_up(gang)
        self.end_strays()

    def end_strays(self) -> bool:
        """Kill what carries our mark and belongs to no live task: what an agent before us started and lost.

        Whether anything was left, if only on its way out.
        """
        left = False
        live = {(gang.record.attempt, task.record.rank) for gang, task in self._roster.live_tasks()}
        for process in processes.marked_processes(self._roster.config.mark):
            if (process.attempt, process.rank) not in live:
                self._log.warning("stray_killed", pid=process.stat.pid, attempt=process.attempt, rank=process.rank)
                processes.kill_process(process.stat)
                left = True
        names = {f"{attempt}-{rank}" for attempt, rank in live}
        for name, group in self._roster.cgroups.existing().items():
            if name not in names:
                group.kill()
                left |= not group.remove()
        return left

    def _recover_rank(self, gang: Gang, record: RankRecord, found: MarkedProcess | None) -> None:
        task = self._roster.task(gang, record)
        task.log.recover()
        if record.end is not None:
            task.finish(record.end)
        elif task.adopt(found):
            self._log.info("task_adopted", attempt=record.attempt, rank=record.rank, pid=record.pid)
            self._roster.watch(gang, task)
        else:
            self._bury(gang, task)
        self._roster.try_to_save(lambda: self._roster.state.save_rank(record))

    def _bury(self, gang: Gang, task: Task) -> None:
        """It ended while no agent was there. When is not known; that it was not after the last sign of life counts
        in the customer's favour."""
        record = task.record
        at = max(self._last_alive(), record.started_at or gang.record.created_at)
        kills = record.group.oom_kills() if record.group is not None else 0
        asked = EndCause.CANCELLED if gang.record.cancelled_at is not None else None
        task.finish(ending.judge(Evidence(at=at, status=None, asked=asked, oom_kills=kills)))
        self._log.warning("task_ended_unobserved", attempt=record.attempt, rank=record.rank)

    def _complete(self, gang: Gang) -> None:
        """Ranks without a record were never started."""
        places = [place.node for place in gang.record.placements for _ in range(place.tasks)]
        for rank, node in enumerate(places):
            if rank not in gang.tasks:
                record = RankRecord(attempt=gang.record.attempt, rank=rank, node=node, boot="")
                self._bury(gang, self._roster.task(gang, record))

    def _take_up(self, gang: Gang) -> None:
        """Go on with what the last agent had begun."""
        ends = [task.record.end for task in gang.tasks.values() if task.record.end is not None]
        if gang.record.cancelled_at is not None:
            gang.begin_to_end(EndCause.CANCELLED, gang.record.grace_seconds)
        elif any(end.outcome is not Outcome.SUCCEEDED for end in ends):
            gang.begin_to_end(EndCause.PEER_ENDED, gang.record.grace_seconds)

    def _last_alive(self) -> datetime:
        alive = self._roster.state.last_alive()
        return datetime.fromtimestamp(alive, UTC) if alive is not None else self._roster.clock.now()
