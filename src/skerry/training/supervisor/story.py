"""What is told of an attempt: how it stands, and what happened since the last report."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from skerry.training.reporting import (
    End,
    Event,
    EventType,
    LastRestart,
    LostTime,
    RunState,
    Straggler,
    TrainingReport,
)
from skerry.training.rules.goodput import Ledger
from skerry.training.rules.restarts import Failure
from skerry.training.supervisor.watch import Watch

_METRICS_A_REPORT: Final = 500
_EVENTS_KEPT: Final = 500
_QUIET_MS: Final = 30_000
_LOOK_MS: Final = 5_000


class Story:
    """Kept by the leader, read by the reporter."""

    def __init__(self, ledger: Ledger, watch: Watch, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._watch = watch
        self._now = now
        self._events: list[Event] = []
        self._lost: list[LostTime] = []
        self._slow: tuple[Straggler, ...] = ()
        self._told: tuple[Any, ...] = ()
        self._told_at = 0
        self._looked_at = 0
        self._loss_began = 0
        self._reached_before = 0
        self.state = RunState.STARTING
        self.generation = 0
        self.checkpoint_step: int | None = None
        self.last_restart: LastRestart | None = None
        self.end: End | None = None
        self.important: Callable[[], None] = lambda: None

    def event(self, kind: EventType, **data: Any) -> None:
        self._events.append(Event(type=kind, at=self._now(), data=data))
        del self._events[:-_EVENTS_KEPT]
        self.important()

    def lost_ranks(self, failure: Failure, last_step_at: int) -> None:
        """A generation has ended before its time."""
        self.state = RunState.RECOVERING
        self._loss_began, self._reached_before = last_step_at, self._ledger.reached
        self.last_restart = LastRestart(
            cause=failure.cause,
            generation=self.generation,
            at=failure.at,
            rank=failure.rank,
            node=failure.node,
            exit_code=None if failure.signal is not None else failure.code if failure.rank is not None else None,
            signal=failure.signal,
            step=self._ledger.reached,
            lost_ms=max(0, failure.at - last_step_at),
            ours=failure.ours,
            detail=failure.detail,
        )

    def resumed_from(self, step: int) -> None:
        if self.last_restart is not None and self.state is RunState.RECOVERING:
            self.last_restart = msgspec.structs.replace(self.last_restart, resumed_step=step)

    def stepped(self, at: int, step: int) -> None:
        """Called after the ledger has booked it."""
        if self.state is RunState.STARTING:
            self.state = RunState.RUNNING
            self.important()
        elif self.state is RunState.RECOVERING:
            self.state = RunState.RUNNING
            self.event(EventType.RECOVERED, generation=self.generation, step=step, lost_seconds=self._seconds(at))
        if self.last_restart is not None and self._loss_began:
            self.last_restart = msgspec.structs.replace(self.last_restart, lost_ms=max(0, at - self._loss_began))
            if step >= self._reached_before:
                self._loss_began = 0

    def look_for_stragglers(self) -> None:
        now = self._now()
        if now < self._looked_at + _LOOK_MS:
            return
        self._looked_at = now
        slow = self._watch.slow()
        known = {one.rank for one in self._slow}
        for one in slow:
            if one.rank not in known:
                self.event(EventType.STRAGGLER, rank=one.rank, node=one.node, ratio=one.ratio)
        self._slow = slow

    def report(self, seq: int) -> TrainingReport | None:
        """None: nothing to tell."""
        now = self._now()
        if self._watch.dropped:
            self.event(EventType.METRICS_DROPPED, count=self._watch.dropped)
            self._watch.dropped = 0
        self._lost += self._ledger.news()
        stands = (self.state, self._ledger.reached, self.generation, self.checkpoint_step, self.end, self._slow)
        news = bool(self._events or self._lost or self._watch.has_metrics)
        if not news and stands == self._told and now < self._told_at + _QUIET_MS:
            return None
        self._told, self._told_at = stands, now
        step_ms = self._watch.step_ms
        report = TrainingReport(
            seq=seq,
            at=now,
            generation=self.generation,
            state=self.state,
            step=self._ledger.reached,
            checkpoint_step=self.checkpoint_step,
            step_ms=None if step_ms is None else round(step_ms),
            restarts=max(0, self.generation - 1),
            last_restart=self.last_restart,
            goodput=self._ledger.goodput(now),
            stragglers=self._slow,
            events=tuple(self._events),
            metrics=self._watch.metrics(_METRICS_A_REPORT),
            lost=tuple(self._lost),
            end=self.end,
        )
        self._events, self._lost = [], []
        return report

    def _seconds(self, at: int) -> float:
        return max(0, at - self._loss_began) / 1000
