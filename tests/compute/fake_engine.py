"""An engine in memory: what a test says happens, happens, at the time the test says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from skerry.compute.engines.base import (
    Capabilities,
    EndCause,
    EngineRefused,
    EngineUnavailable,
    EventBatch,
    GangSpec,
    GangState,
    GangStatus,
    LogChunk,
    NodeCondition,
    NodeState,
    RankEnd,
    RankState,
    UnknownAttempt,
)
from skerry.compute.model import Outcome
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId


class FakeEngine:
    name: ClassVar[str] = "fake"

    def __init__(self, clock: Clock, accelerators: int = 4, *, shared: bool = False, nodes: int = 1) -> None:
        self.clock = clock
        self.away = False
        self.refusal: Exception | None = None
        self.node = NodeState("local-1", NodeCondition.READY, 4, 1 << 34, tuple(range(accelerators)), shared)
        self.others = [replace(self.node, name=f"local-{number}") for number in range(2, nodes + 1)]
        self.gangs: dict[AttemptId, GangState] = {}
        self.submitted: list[GangSpec] = []
        self.cancelled: list[AttemptId] = []
        self.forgotten: list[AttemptId] = []
        self.changed: list[AttemptId] = []
        self.log = b""

    # What a test does to it

    def end(
        self,
        attempt: AttemptId,
        outcome: Outcome = Outcome.FAILED,
        cause: EndCause = EndCause.EXITED,
        exit_code: int | None = 1,
        message: str = "exit code 1",
    ) -> None:
        end = RankEnd(cause, outcome, self.clock.now(), exit_code=exit_code, message=message)
        gang = self.gangs[attempt]
        ranks = tuple(replace(rank, end=end, log_bytes=len(self.log)) for rank in gang.ranks)
        self.gangs[attempt] = replace(gang, status=GangStatus.ENDED, ranks=ranks, end=end)
        self.changed.append(attempt)

    def report(self, attempt: AttemptId, report: Mapping[str, Any], rank: int = 0) -> None:
        gang = self.gangs[attempt]
        ranks = list(gang.ranks)
        ranks[rank] = replace(ranks[rank], report=report)
        self.gangs[attempt] = replace(gang, ranks=tuple(ranks))
        self.changed.append(attempt)

    # Engine

    async def capabilities(self) -> Capabilities:
        return Capabilities(engine=self.name)

    async def nodes(self) -> Sequence[NodeState]:
        self._answer()
        return [self.node, *self.others]

    async def submit(self, gang: GangSpec) -> str:
        self._answer()
        if self.refusal is not None:
            raise self.refusal
        if gang.attempt not in self.gangs:
            self.submitted.append(gang)
            nodes = [one.node for one in gang.placements for _ in range(one.tasks)]
            ranks = tuple(RankState(rank, node, 100 + rank, self.clock.now()) for rank, node in enumerate(nodes))
            self.gangs[gang.attempt] = GangState(gang.attempt, GangStatus.RUNNING, f"fake/{gang.attempt}", ranks)
        return f"fake/{gang.attempt}"

    async def observe(self, attempts: Sequence[AttemptId]) -> Mapping[AttemptId, GangState]:
        self._answer()
        return {attempt: self.gangs[attempt] for attempt in attempts if attempt in self.gangs}

    async def known(self) -> Sequence[AttemptId]:
        self._answer()
        return list(self.gangs)

    async def logs(self, attempt: AttemptId, rank: int, offset: int, limit: int) -> LogChunk:
        self._answer()
        if attempt not in self.gangs and attempt not in self.forgotten:
            raise UnknownAttempt("no such log")
        ended = attempt in self.forgotten or self.gangs[attempt].status is GangStatus.ENDED
        return LogChunk(self.log[offset : offset + limit], min(offset, len(self.log)), len(self.log), ended)

    async def signal(self, attempt: AttemptId, number: int) -> None:
        raise NotImplementedError

    async def cancel(self, attempt: AttemptId, grace_seconds: float) -> None:
        self._answer()
        self.cancelled.append(attempt)
        if attempt not in self.gangs:
            end = RankEnd(EndCause.CANCELLED, Outcome.CANCELLED, self.clock.now())
            self.gangs[attempt] = GangState(attempt, GangStatus.ENDED, "none", (), end)
        elif self.gangs[attempt].status is GangStatus.RUNNING:
            self.gangs[attempt] = replace(self.gangs[attempt], status=GangStatus.STOPPING)

    async def forget(self, attempt: AttemptId) -> None:
        self._answer()
        if attempt in self.gangs and self.gangs[attempt].status is not GangStatus.ENDED:
            raise EngineRefused("it has not ended")
        self.forgotten.append(attempt)
        self.gangs.pop(attempt, None)

    async def drain(self, node: str, reason: str) -> None:
        self.node = replace(self.node, condition=NodeCondition.DRAINED, reason=reason)

    async def resume(self, node: str) -> None:
        self.node = replace(self.node, condition=NodeCondition.READY, reason="")

    async def events(self, cursor: str, wait_seconds: float) -> EventBatch:
        self._answer()
        changed, self.changed = tuple(self.changed), []
        return EventBatch("fake.1", changed)

    def _answer(self) -> None:
        if self.away:
            raise EngineUnavailable("The fake engine is away.")
