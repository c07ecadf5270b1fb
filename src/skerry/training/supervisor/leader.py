"""The first node's supervisor: starts generations of ranks, sees them lost, starts the next, and says what happened.

    joining → running ⇄ clearing → … → ended          stopping comes from anywhere

`joining` waits for every node. `clearing` waits until no rank is left anywhere; then the newest complete checkpoint is
looked up and a new generation starts, with a store and a port of its own.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Final

from skerry.training.reporting import Cause, Command, End, EndReason, EventType, Exit, RunState
from skerry.training.rules.commands import Program, ProgramKind
from skerry.training.rules.goodput import Ledger
from skerry.training.rules.restarts import Failure, GiveUp, RankEnd, blame, decide, suspects
from skerry.training.spec import Launcher, SupervisorSpec
from skerry.training.supervisor import saves
from skerry.training.supervisor.follower import JOIN_SECONDS, REJOIN_SECONDS
from skerry.training.supervisor.log import say
from skerry.training.supervisor.peers import Peers
from skerry.training.supervisor.place import Here
from skerry.training.supervisor.ports import StorePort
from skerry.training.supervisor.story import Story
from skerry.training.supervisor.times import Stopwatch
from skerry.training.supervisor.watch import Watch
from skerry.training.supervisor.wire import (
    Cleared,
    Dump,
    Exited,
    Finish,
    FromNode,
    Gone,
    Kill,
    Progress,
    Ready,
    Start,
    States,
    Stop,
    StopAsked,
)

_TICK_SECONDS: Final = 0.25
_TICK_MS: Final = 250
_LOOK_SECONDS: Final = 1.0
_DUMP_SECONDS: Final = 2.0
_CLEAR_SECONDS: Final = 30.0
_LINGER_MS: Final = 1_000
"""Ranks that have saved are given this long to end by themselves."""


class _Phase(StrEnum):
    """What the leader waits for."""

    JOINING = "joining"
    """All nodes."""
    RUNNING = "running"
    CLEARING = "clearing"
    """No rank left anywhere."""
    WAITING = "waiting"
    """The back-off after it died at once."""
    STOPPING = "stopping"
    """A checkpoint, and the ranks' end."""


class Leader:
    """`run` it to the end. Everything happens in one event loop; `heard` and `ask_to_stop` only queue."""

    def __init__(self, here: Here, spec: SupervisorSpec, program: Program, clock: Stopwatch) -> None:
        self._here = here
        self._spec = spec
        self._clock = clock
        self._tasks = 1 if spec.launcher is Launcher.NONE else spec.tasks_per_node
        self._ledger = Ledger(clock.now(), reached_step=spec.reached_step)
        patient = program.kind is ProgramKind.EXECUTABLE
        self._watch = Watch(spec.hang, here.names, self._tasks, patient=patient)
        self.story = Story(self._ledger, self._watch, clock.now)
        self._peers = Peers(here, spec.secret, self.heard)
        self._inbox: asyncio.Queue[tuple[int, FromNode]] = asyncio.Queue()
        self._phase = _Phase.JOINING
        self._since = clock.now()
        self._ready: set[int] = set()
        self._cleared: set[int] = set()
        self._ends: dict[int, RankEnd] = {}
        self._failure: Failure | None = None
        self._history: list[Failure] = []
        self._delay_ms = 0
        self._port: StorePort | None = None
        self._look = saves.Look()
        self._looked_at = 0
        self._last_step_at = clock.now()
        self._stop_deadline = 0
        self._saved_at: int | None = None
        self._step_at_stop: int | None = None
        self._states: dict[int, str] | None = None
        self._ticked_at = clock.now()
        self._end: End | None = None

    @property
    def peers(self) -> Peers:
        return self._peers

    def heard(self, rank: int, message: FromNode) -> None:
        self._inbox.put_nowait((rank, message))

    def ask_to_stop(self) -> None:
        self.heard(0, StopAsked())

    def command(self, command: Command) -> None:
        """The control plane's."""
        if command is Command.CHECKPOINT_AND_STOP:
            self.ask_to_stop()

    async def run(self) -> End:
        """How it ended. No rank runs any more, on nodes that can be reached."""
        try:
            await self._peers.listen()
            while self._end is None:
                received = await self._next(_TICK_SECONDS)
                if received is not None:
                    await self._handle(*received)
                if self._end is None and (received is None or self._clock.now() >= self._ticked_at + _TICK_MS):
                    self._ticked_at = self._clock.now()
                    await self._tick()
        except OSError as error:
            self._finish(EndReason.LOST_PEER, Exit.LOST_PEER, str(error), ours=True)
        assert self._end is not None
        self._peers.send_all(Finish(self._end.exit_code, self._end.detail))
        return self._end

    async def close(self) -> None:
        await self._peers.close()
        if self._port is not None:
            self._port.close()

    async def _next(self, seconds: float) -> tuple[int, FromNode] | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._inbox.get()
        return None

    # -- what comes in

    async def _handle(self, rank: int, message: FromNode) -> None:
        if isinstance(message, Progress):
            self._progress(message)
        elif isinstance(message, Exited):
            await self._exited(rank, message)
        elif isinstance(message, Cleared):
            await self._cleared_by(rank, message)
        elif isinstance(message, Ready):
            await self._ready_is(rank, message)
        elif isinstance(message, Gone):
            self._gone(rank)
        elif isinstance(message, StopAsked):
            self._stop(rank)
        elif isinstance(message, States) and self._states is not None:
            self._states.update(message.states)

    def _progress(self, message: Progress) -> None:
        made = self._watch.take(message, self._clock.now())
        if self._phase not in (_Phase.RUNNING, _Phase.STOPPING):
            return
        self._ledger.saved(message.stall_ms)
        for at, step in made:
            if self._phase is _Phase.RUNNING:
                self._ledger.step(at, step)
                self.story.stepped(at, step)
            self._last_step_at = at

    async def _ready_is(self, rank: int, message: Ready) -> None:
        if message.refusal:
            code = message.exit_code
            reason = EndReason.REFUSED
            self._finish(reason, code, f"{self._here.names[rank]}: {message.refusal}", node=self._here.names[rank])
            return
        self._ready.add(rank)
        if self._phase is _Phase.CLEARING and rank not in self._cleared:
            self._peers.send(rank, Kill(self.story.generation))
        if self._phase is _Phase.JOINING and len(self._ready) == self._here.nodes:
            await self._start()

    async def _exited(self, node: int, message: Exited) -> None:
        if message.generation != self.story.generation:
            return
        self._ends[message.rank] = RankEnd(
            rank=message.rank,
            node=self._here.names[node],
            at=self._clock.now() - message.age_ms,
            exit_code=message.exit_code,
            signal=message.signal,
            asked=message.asked or self._phase is _Phase.STOPPING,
            out_of_memory=message.out_of_memory,
            tail=message.tail,
        )
        if self._phase is _Phase.RUNNING:
            if not self._ends[message.rank].well:
                self._clear()
            elif len(self._ends) == self._world:
                self._ledger.ended(self._clock.now(), well=True)
                self._finish(EndReason.SUCCEEDED, Exit.SUCCEEDED, "every rank ended with 0")
        elif self._phase is _Phase.STOPPING and len(self._ends) == self._world:
            await self._stopped()

    async def _cleared_by(self, rank: int, message: Cleared) -> None:
        if self._phase is not _Phase.CLEARING or message.generation != self.story.generation:
            return
        self._cleared.add(rank)
        if len(self._cleared) == self._here.nodes:
            await self._judge()

    def _gone(self, rank: int) -> None:
        """Its ranks are lost to the others. It may come back; how long that is waited for, `_tick` knows."""
        self._ready.discard(rank)
        self._cleared.discard(rank)
        if self._phase in (_Phase.RUNNING, _Phase.WAITING):
            name = self._here.names[rank]
            say(f"node {name} does not answer; waiting {REJOIN_SECONDS:.0f} s for it")
            self._failure = self._failed(Cause.NODE_AWAY, f"node {name} did not answer for a moment", node=name)
            self._clear()

    def _stop(self, rank: int) -> None:
        if self._phase is _Phase.STOPPING:
            return
        now = self._clock.now()
        margin = min(2_000.0, self._spec.grace_seconds * 200)
        self._stop_deadline = now + round(self._spec.grace_seconds * 1000 - margin)
        self._step_at_stop = self._look.step
        running = self._phase is _Phase.RUNNING
        self._enter(_Phase.STOPPING)
        self._ledger.stopping(now)
        self.story.state = RunState.STOPPING
        asked_by = self._here.names[rank]
        self.story.event(EventType.STOPPING, grace_seconds=self._spec.grace_seconds, asked_by=asked_by)
        if not running:
            self._finish_stop()
            return
        say(f"asked to stop: the ranks have {self._spec.grace_seconds:g} s to save")
        self._peers.send_all(Stop())

    # -- what time brings

    async def _tick(self) -> None:
        now = self._clock.now()
        if self._phase is _Phase.JOINING and now > self._since + JOIN_SECONDS * 1000:
            missing = [name for rank, name in enumerate(self._here.names) if rank not in self._ready]
            self._finish(EndReason.LOST_PEER, Exit.LOST_PEER, f"never joined: {', '.join(missing)}", ours=True)
        elif self._phase is _Phase.CLEARING:
            self._tick_clearing(now)
        elif self._phase is _Phase.WAITING and now >= self._since + self._delay_ms:
            await self._start()
        elif self._phase is _Phase.RUNNING:
            await self._look_at_saves(now)
            self.story.look_for_stragglers()
            silence = self._watch.silence(now)
            if silence is not None:
                await self._hang(*silence)
        elif self._phase is _Phase.STOPPING:
            await self._tick_stopping(now)

    def _tick_clearing(self, now: int) -> None:
        away = sorted(set(range(self._here.nodes)) - set(self._peers.connected()))
        if away and now > self._since + REJOIN_SECONDS * 1000:
            names = ", ".join(self._here.names[rank] for rank in away)
            self._finish(EndReason.LOST_PEER, Exit.LOST_PEER, f"lost for {REJOIN_SECONDS:.0f} s: {names}", ours=True)
        elif now > self._since + _CLEAR_SECONDS * 1000:
            left = sorted(set(range(self._here.nodes)) - self._cleared)
            names = ", ".join(self._here.names[rank] for rank in left)
            self._finish(EndReason.LOST_PEER, Exit.LOST_PEER, f"ranks could not be ended on {names}", ours=True)

    async def _tick_stopping(self, now: int) -> None:
        await self._look_at_saves(now)
        if self._saved_at is None and (self._look.step or -1) > (self._step_at_stop or -1):
            self._saved_at = now
        if now >= self._stop_deadline or (self._saved_at is not None and now >= self._saved_at + _LINGER_MS):
            await self._stopped()

    async def _look_at_saves(self, now: int, *, at_once: bool = False) -> None:
        """In a thread: a shared file system may take its time."""
        if not at_once and now < self._looked_at + _LOOK_SECONDS * 1000:
            return
        before, self._looked_at = self._look, now
        self._look = await asyncio.to_thread(saves.look, self._here.checkpoints)
        if self._look.growth != before.growth:
            self._watch.alive(self._clock.now())
        self.story.checkpoint_step = self._look.step
        if self._look.newest is not None and self._look.step != before.step:
            path = str((self._here.checkpoints or self._here.folder) / self._look.newest.name)
            self.story.event(EventType.CHECKPOINT_COMPLETE, step=self._look.step, path=path)

    # -- generations

    async def _start(self) -> None:
        removed = await asyncio.to_thread(saves.remove_abandoned, self._here.checkpoints)
        for path in removed:
            self.story.event(EventType.CHECKPOINT_REMOVED, path=str(path))
        await self._look_at_saves(self._clock.now(), at_once=True)
        if self._port is not None:
            self._port.close()
        self._port = StorePort()
        self.story.generation += 1
        self._ends, self._cleared, self._failure = {}, set(), None
        newest = self._look.newest
        checkpoint = str(self._here.checkpoints / newest.name) if self._here.checkpoints and newest else ""
        step = self._look.step or 0
        self._enter(_Phase.RUNNING)
        self._peers.send_all(Start(self.story.generation, self._here.addresses[0], self._port.number, checkpoint, step))
        now = self._clock.now()
        self._ledger.started(now)
        self._watch.begin(self.story.generation, now)
        self._last_step_at = now
        self.story.resumed_from(step)
        self.story.event(
            EventType.GENERATION_STARTED, generation=self.story.generation, resume_step=step, checkpoint=checkpoint
        )
        if self.story.generation > 1:
            say(
                f"started again as generation {self.story.generation}, from "
                + (f"step {step}" if checkpoint else "the start")
            )

    def _clear(self) -> None:
        self._since = self._clock.now()
        self._enter(_Phase.CLEARING)
        self._cleared = set()
        self._peers.send_all(Kill(self.story.generation))

    async def _judge(self) -> None:
        """Every rank is gone: why, and what now."""
        progress = self._watch.stepped
        failure = self._failure or blame(self._ends.values(), progress=progress)
        assert failure is not None, "a generation is cleared for a reason"
        self._history.append(failure)
        self._ledger.lost(failure.at, hang=failure.cause is Cause.HANG, ours=failure.ours)
        self.story.lost_ranks(failure, self._last_step_at)
        self._tell(failure)
        now, window = self._clock.now(), round(self._spec.restart_window_seconds * 1000)
        verdict = decide(self._history, now=now, max_restarts=self._spec.max_restarts, window_ms=window)
        self._tell_suspects(failure, now, window)
        if isinstance(verdict, GiveUp):
            reason, code = (
                (EndReason.KILLED_TOO_OFTEN, Exit.KILLED_TOO_OFTEN)
                if verdict.ours
                else (EndReason.FAILED, failure.code)
            )
            self._finish(reason, code, verdict.detail, ours=verdict.ours, failure=failure)
        elif verdict.delay_ms:
            self._delay_ms = verdict.delay_ms
            self._enter(_Phase.WAITING)
            self.story.event(EventType.BACKING_OFF, seconds=verdict.delay_ms / 1000, deaths=verdict.deaths)
            say(f"it died before its first step; the next try is in {verdict.delay_ms / 1000:g} s")
        else:
            await self._start()

    def _tell(self, failure: Failure) -> None:
        say(f"{failure.detail}; highest step {self._ledger.reached}")
        self.story.event(
            EventType.RANKS_LOST,
            generation=self.story.generation,
            cause=failure.cause.value,
            rank=failure.rank,
            node=failure.node,
            step=self._ledger.reached,
            detail=failure.detail,
            ours=failure.ours,
            counted=not failure.ours,
        )

    def _tell_suspects(self, failure: Failure, now: int, window: int) -> None:
        ranks, nodes = suspects(self._history, now=now, window_ms=window)
        if failure.rank in ranks:
            self.story.event(EventType.SUSPECT, rank=failure.rank, node=failure.node, times=ranks[failure.rank])
        elif failure.node in nodes and self._here.nodes > 1:
            self.story.event(EventType.SUSPECT, node=failure.node, times=nodes[failure.node])

    async def _hang(self, silent_ms: int, limit_ms: float) -> None:
        """Have every rank say where it is, then begin anew."""
        self._states = {}
        self._peers.send_all(Dump())
        await self._hear_for(_DUMP_SECONDS, lambda: len(self._states or {}) == self._world - len(self._ends))
        states, self._states = self._states, None
        ranks = [
            {"rank": rank, "node": self._watch.node_of(rank), "process_state": state}
            for rank, state in sorted(states.items())
        ]
        self.story.event(
            EventType.HANG_DETECTED, silent_seconds=silent_ms / 1000, limit_seconds=limit_ms / 1000, ranks=ranks
        )
        stopped = [rank for rank, state in states.items() if state in "Tt"]
        rank = stopped[0] if len(stopped) == 1 else None
        words = f"no sign of life for {silent_ms / 1000:.0f} s (the limit was {limit_ms / 1000:.0f} s)"
        if rank is not None:
            words += f"; rank {rank} on {self._watch.node_of(rank)} is a stopped process"
        node = self._watch.node_of(rank) if rank is not None else None
        self._failure = self._failed(Cause.HANG, words, rank=rank, node=node)
        self._clear()

    async def _hear_for(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Go on listening meanwhile; stacks take a moment to be written."""
        deadline = asyncio.get_running_loop().time() + seconds
        later: list[tuple[int, FromNode]] = []
        while asyncio.get_running_loop().time() < deadline:
            received = await self._next(_TICK_SECONDS)
            if received is not None and isinstance(received[1], States | Progress):
                await self._handle(*received)
            elif received is not None:
                later.append(received)
            if enough():
                await asyncio.sleep(_TICK_SECONDS)
                break
        for one in later:
            self._inbox.put_nowait(one)

    def _failed(self, cause: Cause, detail: str, *, rank: int | None = None, node: str | None = None) -> Failure:
        return Failure(cause, self._clock.now(), node, rank, 1, None, detail, self._watch.stepped)

    # -- ends

    async def _stopped(self) -> None:
        """The ranks have ended, have saved, or have no time left."""
        await self._look_at_saves(self._clock.now(), at_once=True)
        self._finish_stop()

    def _finish_stop(self) -> None:
        now = self._clock.now()
        saved = (self._look.step or -1) > (self._step_at_stop or -1)
        well = len(self._ends) == self._world and all(end.well for end in self._ends.values())
        self._ledger.ended(now, well=False)
        if saved or well:
            step = f"with a complete checkpoint of step {self._look.step}" if saved else "every rank ended with 0"
            self._finish(EndReason.STOPPED, Exit.STOPPED, f"stopped as asked, {step}")
        else:
            newest = f"of step {self._look.step}" if self._look.step is not None else "there is none"
            self._finish(
                EndReason.STOPPED_UNSAVED,
                Exit.STOPPED_UNSAVED,
                f"stopped as asked; no checkpoint became complete within {self._spec.grace_seconds:g} s"
                f" (newest complete one: {newest})",
            )

    def _finish(
        self,
        reason: EndReason,
        code: int,
        detail: str,
        *,
        ours: bool = False,
        node: str | None = None,
        failure: Failure | None = None,
    ) -> None:
        self._ledger.ended(self._clock.now(), well=reason is EndReason.SUCCEEDED)
        self._end = End(
            reason=reason,
            exit_code=int(code),
            detail=detail,
            ours=ours,
            cause=failure.cause if failure else None,
            rank=failure.rank if failure else None,
            node=failure.node if failure else node,
        )
        self.story.state, self.story.end = RunState.ENDED, self._end
        self.story.important()
        say(detail)

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._since = self._clock.now()

    @property
    def _world(self) -> int:
        return self._here.nodes * self._tasks
