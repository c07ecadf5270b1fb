"""Starting a gang: all of its tasks, or none."""

import os
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from skerry.compute.engines.base import EndCause, EngineUnavailable, GangSpec, RankEnd
from skerry.compute.engines.embedded import ending, processes, rules, spawn
from skerry.compute.engines.embedded.gang import Gang
from skerry.compute.engines.embedded.records import GangRecord, RankRecord
from skerry.compute.engines.embedded.roster import LOGGER, Roster
from skerry.compute.engines.embedded.task import Task
from skerry.compute.model import Outcome

_PROCESSES: Final = 8192
"""Processes and threads of a task that sets no limit itself."""


class Starter:
    """Turns a spec into a gang whose tasks are watched."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._nodes = {node.name: node for node in roster.config.nodes}
        self._log = structlog.get_logger(LOGGER)

    def start(self, spec: GangSpec) -> Gang:
        """The gang, running; or ended, where a command could not be executed. Raises EngineUnavailable."""
        gang = self._record(spec)
        self._roster.gangs[spec.attempt] = gang
        for rank, (node, devices) in enumerate(rules.ranks(spec)):
            task = gang.tasks[rank]
            try:
                local = self._nodes[node]
                self._start_rank(gang, task, spec, None if local.shared else local.on_machine(devices))
            except OSError as error:
                self._log.warning("task_not_started", attempt=spec.attempt, rank=rank, error=str(error))
                task.finish(ending.never_started(self._roster.clock.now(), error, spec.command[0]))
                self._skip(gang)
                self._roster.rank_ended(gang, task)
                break
        self._roster.feed.publish(spec.attempt)
        return gang

    def _record(self, spec: GangSpec) -> Gang:
        """Put it on disk before anything runs: an agent that dies from here on leaves a trace to find its tasks by."""
        gang = Gang(
            GangRecord(
                attempt=spec.attempt,
                created_at=self._roster.clock.now(),
                workload=spec.workload,
                project=spec.project,
                placements=tuple(spec.placements),
                command=tuple(spec.command),
                limits=spec.limits,
                grace_seconds=spec.grace_seconds,
            )
        )
        boot = processes.boot_id()
        for rank, (node, _) in enumerate(rules.ranks(spec)):
            self._roster.task(gang, RankRecord(attempt=spec.attempt, rank=rank, node=node, boot=boot))
        try:
            self._roster.state.save_gang(gang.record)
            for task in gang.tasks.values():
                self._roster.state.save_rank(task.record)
        except OSError as error:
            for rank in gang.tasks:
                self._roster.state.drop_rank(spec.attempt, rank)
            self._roster.state.drop_gang(spec.attempt)
            raise EngineUnavailable(f"The agent cannot write its state: {error.strerror}.") from error
        return gang

    def _start_rank(self, gang: Gang, task: Task, spec: GangSpec, devices: tuple[int, ...] | None) -> None:
        run_as = self._roster.config.run_as
        task.record.group = self._roster.cgroups.create(
            f"{spec.attempt}-{task.record.rank}",
            memory_bytes=spec.limits.memory_bytes,
            processes=spec.limits.processes or _PROCESSES,
        )
        log = task.log.create((run_as.uid, run_as.gid) if run_as is not None else None)
        try:
            launch = spawn.Launch(
                gang=spec,
                rank=task.record.rank,
                work=task.work,
                log=log,
                devices=devices,
                engine=self._roster.config.mark,
                run_as=run_as,
                group=task.record.group,
                lifeline=self._roster.config.lifeline_fd,
            )
            spawn.prepare(launch)
            task.start(launch)
        finally:
            os.close(log)
        self._roster.try_to_save(partial(self._roster.state.save_rank, task.record))
        self._roster.watch(gang, task)

    def _skip(self, gang: Gang) -> None:
        """The ranks after one that could not be started."""
        for task in gang.live:
            if task.record.pid is None:
                task.finish(_skipped(self._roster.clock.now()))
                self._roster.try_to_save(partial(self._roster.state.save_rank, task.record))


def _skipped(at: datetime) -> RankEnd:
    return RankEnd(EndCause.PEER_ENDED, Outcome.CANCELLED, at, message="another rank could not be started")
