"""What callers can ask of an agent, and its life from start to stop.

It is the only thing on this machine that starts workloads. All of it runs in one event loop, without threads, so that a
child can be set up between fork and exec.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from skerry.compute.engines.base import (
    Capabilities,
    EndCause,
    EngineRefused,
    EngineUnavailable,
    EventBatch,
    GangSpec,
    GangState,
    LogChunk,
    NodeCondition,
    NodeNotReady,
    NodeReservation,
    NodeState,
    NotFenced,
    UnknownAttempt,
)
from skerry.compute.engines.embedded import rules
from skerry.compute.engines.embedded.chores import Chores
from skerry.compute.engines.embedded.config import AgentConfig
from skerry.compute.engines.embedded.gang import Gang
from skerry.compute.engines.embedded.records import GangRecord, is_attempt_id
from skerry.compute.engines.embedded.recovery import Recovery
from skerry.compute.engines.embedded.reservations import Reservations
from skerry.compute.engines.embedded.roster import Roster
from skerry.compute.engines.embedded.starting import Starter
from skerry.compute.health.readings import GpuWatch
from skerry.compute.task import sandbox
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId

ENGINE: Final = "embedded"
_SHUTDOWN_GRACE_SECONDS: Final = 10.0
_FENCE_SECONDS: Final = 8.0
"""Within what a caller waits for an answer."""
_SWEEPS: Final = 50
_SWEEP_PAUSE_SECONDS: Final = 0.02
_LOG_READ_MAX: Final = 4 << 20


class Supervisor:
    """The verbs are those of `Engine`; what they promise is written there. Made inside the running loop."""

    def __init__(self, config: AgentConfig, clock: Clock) -> None:
        self._roster = Roster(config, clock)
        self._starter = Starter(self._roster)
        self._recovery = Recovery(self._roster)
        self._chores = Chores(self._roster, self._recovery)
        self._clock = clock
        self._nodes = {node.name: node for node in config.nodes}
        self._drained = self._roster.state.drained()
        self._reservations = Reservations(self._roster.state, clock)
        self._stopping = False
        self._isolates = not sandbox.probe()
        self._gpus = GpuWatch()
        self._gpus.start()

    async def capabilities(self) -> Capabilities:
        controllers = self._roster.cgroups.controllers
        return Capabilities(
            engine=ENGINE,
            isolation=self._isolates,
            memory_limit="memory" in controllers,
            process_limit="pids" in controllers,
            drain=True,
            reserve=True,
            fence=True,
        )

    async def nodes(self) -> Sequence[NodeState]:
        return tuple(
            NodeState(
                name=node.name,
                condition=NodeCondition.DRAINED if node.name in self._drained else NodeCondition.READY,
                cores=node.cores,
                memory_bytes=node.memory_bytes,
                accelerators=node.accelerators,
                shared=node.shared,
                reason=self._drained.get(node.name, ""),
                signals=self._gpus.read(),
            )
            for node in self._nodes.values()
        )

    async def submit(self, gang: GangSpec) -> str:
        if (known := self._roster.gangs.get(gang.attempt)) is not None:
            return known.ref
        if self._stopping:
            raise EngineUnavailable("The agent is shutting down.")
        rules.require_sound(gang)
        for placement in gang.placements:
            self._require_node(placement.node)
            if placement.node in self._drained:
                raise NodeNotReady(f"Node {placement.node} is drained: {self._drained[placement.node]}")
        self._reservations.require(gang)
        return self._starter.start(gang).ref

    async def observe(self, attempts: Sequence[AttemptId]) -> Sequence[GangState]:
        gangs = (self._roster.gangs.get(attempt) for attempt in attempts)
        return tuple(gang.state() for gang in gangs if gang is not None and gang.record.forgotten_at is None)

    async def known(self) -> Sequence[AttemptId]:
        return tuple(id for id, gang in self._roster.gangs.items() if gang.record.forgotten_at is None)

    async def logs(self, attempt: AttemptId, rank: int, offset: int, limit: int) -> LogChunk:
        log = self._roster.log_of(attempt, rank)
        if not is_attempt_id(attempt) or rank < 0 or offset < 0 or not log.exists():
            raise UnknownAttempt(f"There is no log of rank {rank} of {attempt} (any more).")
        gang = self._roster.gangs.get(attempt)
        task = gang.tasks.get(rank) if gang is not None else None
        ended = task is None or task.record.end is not None
        begin, data = log.read(offset, min(limit, _LOG_READ_MAX))
        return LogChunk(data=data, offset=begin, size=log.size(), ended=ended)

    async def signal(self, attempt: AttemptId, number: int) -> None:
        gang = self._roster.require(attempt)
        rules.require_signal(number)
        for task in gang.live:
            task.send(number)

    async def cancel(self, attempt: AttemptId, grace_seconds: float) -> None:
        if not is_attempt_id(attempt):
            raise UnknownAttempt(f"{attempt!r} is no attempt id.")
        now = self._clock.now()
        gang = self._roster.gangs.get(attempt)
        if gang is None:
            # So that a submit which is still on its way finds it ended.
            gang = self._roster.gangs[attempt] = Gang(GangRecord(attempt=attempt, created_at=now))
        elif gang.ended:
            return
        gang.record.cancelled_at = gang.record.cancelled_at or now
        gang.record.grace_seconds = grace_seconds
        self._roster.try_to_save(lambda: self._roster.state.save_gang(gang.record))
        gang.begin_to_end(EndCause.CANCELLED, grace_seconds)
        self._roster.feed.publish(attempt)

    async def forget(self, attempt: AttemptId) -> None:
        gang = self._roster.gangs.get(attempt)
        if gang is None or gang.record.forgotten_at is not None:
            return
        if not gang.ended:
            raise EngineRefused(f"{attempt} has not ended: cancel it first.")
        gang.record.forgotten_at = self._clock.now()
        self._roster.try_to_save(lambda: self._roster.state.save_gang(gang.record))
        for rank in gang.tasks:
            self._roster.state.drop_rank(attempt, rank)

    async def drain(self, node: str, reason: str) -> None:
        self._require_node(node)
        self._save_drained({**self._drained, node: reason})

    async def resume(self, node: str) -> None:
        self._require_node(node)
        self._save_drained({name: reason for name, reason in self._drained.items() if name != node})

    async def reserve(self, reservation: NodeReservation) -> None:
        self._reservations.add(reservation, self._nodes)

    async def release(self, name: str) -> None:
        self._reservations.remove(name)

    async def reservations(self) -> Sequence[NodeReservation]:
        return self._reservations.all()

    async def fence(self, node: str, reason: str) -> None:
        await self.drain(node, reason)
        there = [(gang, task) for gang, task in self._roster.live_tasks() if task.record.node == node]
        for gang in {id(gang): gang for gang, _ in there}.values():
            gang.begin_to_end(EndCause.ENGINE_STOPPED, 0)
        try:
            async with asyncio.timeout(_FENCE_SECONDS):
                for _, task in there:
                    await task.ended.wait()
        except TimeoutError:
            raise NotFenced(f"Something on {node} does not die: restart the machine.") from None

    async def events(self, cursor: str, wait_seconds: float) -> EventBatch:
        return await self._roster.feed.wait(cursor, wait_seconds)

    def recover(self) -> None:
        """Before the first call: take up what an earlier agent left."""
        self._recovery.recover()

    async def run(self) -> None:
        """The chores. Until cancelled; raises where a task could not be followed."""
        chores = asyncio.create_task(self._chores.run())
        try:
            await asyncio.wait({chores, self._roster.crashed}, return_when=asyncio.FIRST_COMPLETED)
            for done in (chores, self._roster.crashed):
                if done.done():
                    done.result()
        finally:
            chores.cancel()

    async def stop(self) -> None:
        """End all tasks in order and take no more. Returns when they have ended."""
        self._stopping = True
        pairs = list(self._roster.live_tasks())
        for gang in {id(gang): gang for gang, _ in pairs}.values():
            gang.begin_to_end(EndCause.ENGINE_STOPPED, min(gang.record.grace_seconds, _SHUTDOWN_GRACE_SECONDS))
        for _, task in pairs:
            await task.ended.wait()
        await self._roster.settled()
        for _ in range(_SWEEPS):
            if not self._recovery.end_strays():
                break
            await asyncio.sleep(_SWEEP_PAUSE_SECONDS)
        self._roster.cgroups.close()
        self._roster.try_to_save(self._roster.state.touch_alive)

    def abandon(self) -> None:
        """Let go of all tasks without ending them, as the agent's death would."""
        for gang, task in self._roster.live_tasks():
            gang.stop_escalation()
            task.abandon()

    def _require_node(self, name: str) -> None:
        if name not in self._nodes:
            raise NodeNotReady(f"There is no node {name!r} here.")

    def _save_drained(self, drained: dict[str, str]) -> None:
        try:
            self._roster.state.save_drained(drained)
        except OSError as error:
            raise EngineUnavailable(f"The agent cannot write its state: {error.strerror}.") from error
        self._drained = drained
