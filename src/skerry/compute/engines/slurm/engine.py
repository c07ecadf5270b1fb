"""The engine for a fleet: gangs as Slurm jobs on the nodes they were placed on.

Slurm allocates, starts and fences; what a task gets and how its end is judged is done on the nodes by `node.py`, with
the embedded engine's parts. The engine's ledger says what there is; `squeue` is asked once for all of it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import ClassVar, Final

import structlog

from skerry.compute.engines.base import (
    BadGang,
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
    NodeNotReady,
    NodeReservation,
    NodeState,
    UnknownAttempt,
)
from skerry.compute.engines.embedded import rules
from skerry.compute.engines.embedded.feed import ChangeFeed
from skerry.compute.engines.embedded.records import is_attempt_id
from skerry.compute.engines.slurm import states
from skerry.compute.engines.slurm.accounting import Accounting
from skerry.compute.engines.slurm.cli import SlurmCli
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.compute.engines.slurm.estate import Estate
from skerry.compute.engines.slurm.jobs import Jobs, Snapshot, inside
from skerry.compute.engines.slurm.layout import AttemptFolder, Order, Stop
from skerry.compute.engines.slurm.ledger import JobRecord, Ledger
from skerry.compute.engines.slurm.sightings import Sightings
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId

_LOG_READ_MAX: Final = 4 << 20
_KEPT_FOR: Final = timedelta(days=7)
_KEPT_AT_MOST: Final = 1000
_TERM_SECONDS: Final = 15.0
"""So long after its grace period a node that was told to end an attempt is given up, and Slurm told to."""


class SlurmEngine:
    """Implements `Engine`. Only one may have a state folder (the agent's lock sees to that)."""

    name: ClassVar[str] = "slurm"

    def __init__(self, config: SlurmConfig, clock: Clock) -> None:
        cli = SlurmCli(config)
        self._config = config
        self._clock = clock
        self._ledger = Ledger(config.state)
        self._records = {record.attempt: record for record in self._ledger.records()}
        self._jobs = Jobs(config, cli)
        self._estate = Estate(config, cli)
        self._sightings = Sightings(config, clock)
        self._accounting = Accounting(cli)
        self._feed = ChangeFeed()
        self._submitting: dict[AttemptId, asyncio.Lock] = {}
        self._shown: dict[AttemptId, GangState] = {}
        self._held: dict[int, float] = {}
        self._log = structlog.get_logger("skerry.slurm")

    async def capabilities(self) -> Capabilities:
        return await self._estate.capabilities(self.name)

    async def nodes(self) -> Sequence[NodeState]:
        return await self._estate.nodes()

    # Gangs

    async def submit(self, gang: GangSpec) -> str:
        lock = self._submitting.setdefault(gang.attempt, asyncio.Lock())
        async with lock:
            record = self._records.get(gang.attempt)
            if record is not None and (record.job is not None or not record.live or record.cancelled_at is not None):
                return states.ref(record)
            rules.require_sound(gang)
            nodes, reservations = await asyncio.gather(self._require_nodes(gang), self._estate.reservations())
            record = await self._hand_over(inside(gang, reservations), nodes)
        self._submitting.pop(gang.attempt, None)
        self._feed.publish(gang.attempt)
        return states.ref(record)

    async def _hand_over(self, gang: GangSpec, nodes: Mapping[str, NodeState]) -> JobRecord:
        """The record first: an engine that dies from here on finds the job by its name."""
        again = gang.attempt in self._records
        places = tuple(node for node, _ in rules.ranks(gang))
        record = JobRecord(gang.attempt, self._clock.now(), places, grace_seconds=gang.grace_seconds)
        config = self._config
        order = Order(
            gang=gang,
            mark=config.mark,
            work=str(config.work),
            shared={name: node.shared for name, node in nodes.items()},
            addresses={name: node.address for name, node in nodes.items()},
            run_as=config.run_as,
            cgroups=config.cgroups,
            log_bytes=config.log_bytes,
            log_parts=config.log_parts,
        )
        try:
            self._folder(gang.attempt).make(order)
            self._save(record)
        except OSError as error:
            raise EngineUnavailable(f"Slurm's folders cannot be written: {error.strerror}.") from error
        try:
            record.job = await self._jobs.find(gang.attempt) if again else None
            if record.job is None:
                record.job = await self._jobs.submit(gang, nodes, self._folder(gang.attempt).path)
        except EngineRefused:
            self._drop(record)
            raise
        if record.cancelled_at is not None:  # meanwhile
            await self._jobs.unqueue(record.job)
        self._save(record)
        return record

    async def _require_nodes(self, gang: GangSpec) -> Mapping[str, NodeState]:
        known = {node.name: node for node in await self._estate.nodes()}
        for placement in gang.placements:
            node = known.get(placement.node)
            if node is None:
                raise NodeNotReady(f"There is no node {placement.node!r} here.")
            if node.condition is not NodeCondition.READY:
                raise NodeNotReady(f"Node {node.name} is {node.condition}: {node.reason}")
            if len(placement.devices) > len(node.accelerators):
                raise BadGang(f"Node {node.name} has {len(node.accelerators)} accelerators.")
        return {placement.node: known[placement.node] for placement in gang.placements}

    async def observe(self, attempts: Sequence[AttemptId]) -> Mapping[AttemptId, GangState]:
        known = [self._records[attempt] for attempt in attempts if attempt in self._records]
        return await self._look([record for record in known if record.forgotten_at is None])

    async def known(self) -> Sequence[AttemptId]:
        return tuple(record.attempt for record in self._records.values() if record.forgotten_at is None)

    async def logs(self, attempt: AttemptId, rank: int, offset: int, limit: int) -> LogChunk:
        log = self._folder(attempt).log(rank) if is_attempt_id(attempt) and rank >= 0 else None
        record = self._records.get(attempt)
        if log is not None and not log.exists() and record is not None and record.live and rank < len(record.places):
            return LogChunk(data=b"", offset=0, size=0, ended=False)  # Slurm has not started it yet
        if log is None or offset < 0 or not log.exists():
            raise UnknownAttempt(f"There is no log of rank {rank} of {attempt} (any more).")
        found = self._folder(attempt).ranks().get(rank) if record is not None and record.live else None
        ended = record is None or not record.live or (found is not None and found.end is not None)
        begin, data = log.read(offset, min(limit, _LOG_READ_MAX))
        return LogChunk(data=data, offset=begin, size=log.size(), ended=ended)

    async def signal(self, attempt: AttemptId, number: int) -> None:
        record = self._records.get(attempt)
        if record is None or record.forgotten_at is not None or not record.places:
            raise UnknownAttempt(f"{attempt} is not known here.")
        rules.require_signal(number)
        if record.live:
            self._folder(attempt).say_signal(number)

    async def cancel(self, attempt: AttemptId, grace_seconds: float) -> None:
        if not is_attempt_id(attempt):
            raise UnknownAttempt(f"{attempt!r} is no attempt id.")
        record = self._records.get(attempt)
        if record is not None and not record.live:
            return
        now = self._clock.now()
        record = record or JobRecord(attempt, now)
        record.cancelled_at = record.cancelled_at or now
        record.grace_seconds = grace_seconds
        self._save(record)
        if record.places:
            self._folder(attempt).say_stop(Stop(EndCause.CANCELLED, grace_seconds))
        if record.job is not None:
            await self._jobs.unqueue(record.job)
        self._feed.publish(attempt)

    async def forget(self, attempt: AttemptId) -> None:
        record = self._records.get(attempt)
        if record is None or record.forgotten_at is not None:
            return
        if record.final is None:
            await self._look([record])
        if record.final is None:
            raise EngineRefused(f"{attempt} has not ended: cancel it first.")
        record.forgotten_at, record.final = self._clock.now(), None
        self._save(record)
        self._folder(attempt).forget()
        self._sightings.forget(attempt)
        self._shown.pop(attempt, None)
        self._prune()

    async def events(self, cursor: str, wait_seconds: float) -> EventBatch:
        end = monotonic() + wait_seconds
        batch = await self._feed.wait(cursor, 0)
        while cursor and not batch.attempts and not batch.reset and monotonic() < end:
            await self._look([record for record in self._records.values() if record.live])
            batch = await self._feed.wait(cursor, max(0.0, min(self._config.poll_seconds, end - monotonic())))
        return batch

    # Nodes

    async def drain(self, node: str, reason: str) -> None:
        await self._estate.drain(node, reason)

    async def resume(self, node: str) -> None:
        await self._estate.resume(node)

    async def reserve(self, reservation: NodeReservation) -> None:
        await self._estate.reserve(reservation)

    async def release(self, name: str) -> None:
        await self._estate.release(name)

    async def reservations(self) -> Sequence[NodeReservation]:
        return await self._estate.reservations()

    async def fence(self, node: str, reason: str) -> None:
        await self._estate.drain(node, reason)
        there = [record for record in self._records.values() if record.live and node in record.places]
        for record in there:
            record.fenced = reason or "no reason given"
            self._save(record)
            self._folder(record.attempt).say_stop(Stop(EndCause.ENGINE_STOPPED, 0))
        proved = await self._estate.end_all_on(node, {record.attempt: record.places for record in there})
        for record in there:
            if proved:
                self._sightings.silence(record.attempt, node)
            if record.job is not None:
                await self._jobs.end(record.job)
        end = monotonic() + self._config.fence_seconds
        while any(record.live for record in there):
            if monotonic() > end:
                raise self._estate.not_fenced(node)
            await self._look(there)
            await asyncio.sleep(min(self._config.poll_seconds, 0.2))
        if not proved and not await self._estate.answers(node):
            raise self._estate.not_fenced(node)

    # Looking

    async def _look(self, records: Sequence[JobRecord]) -> Mapping[AttemptId, GangState]:
        """How they are; what has ended is written down as final."""
        found = {record.attempt: record.final for record in records if record.final is not None}
        live = [record for record in records if record.live]
        snapshot = await self._jobs.snapshot() if any(record.places for record in live) else None
        for record in live:
            if not record.live:  # a look beside this one was faster
                found |= {record.attempt: record.final} if record.final is not None else {}
                continue
            folder = self._folder(record.attempt)
            if snapshot is not None:
                record.job = folder.claimed_by() or record.job or snapshot.find(record.attempt)
            seen = self._sightings.of(record, snapshot, folder)
            if record.job is not None and states.is_untold(seen):
                seen = states.told_by(seen, await self._accounting.end_of(record.job))
            state = states.gang_state(seen)
            found[record.attempt] = state
            await self._act(record, seen, state)
            self._tell(state)
        if snapshot is not None:
            await self._let_go(snapshot)
        return found

    async def _let_go(self, snapshot: Snapshot) -> None:
        """End jobs whose attempt has ended. A controller that is killed forgets what it had not written down: it takes
        such a job for running again, and would keep its nodes from others until it asks them.
        """
        now = monotonic()
        held = [
            job.id
            for job in snapshot.jobs.values()
            if not job.over
            and (record := self._records.get(AttemptId(job.name.removeprefix(snapshot.prefix)))) is not None
            and not record.live
        ]
        self._held = {job: self._held.get(job, now) for job in held}
        for job in [job for job, since in self._held.items() if now - since > self._config.silent_seconds]:
            self._log.warning("job_without_attempt", job=job)
            self._held[job] = now
            await self._jobs.end(job)

    async def _act(self, record: JobRecord, seen: states.Sight, state: GangState) -> None:
        folder = self._folder(record.attempt)
        if state.status is GangStatus.ENDED:
            record.final = state
            self._save(record)
            folder.close()
            return
        if states.is_lost(seen) and folder.stop() is None:
            self._log.warning("runner_without_job", attempt=record.attempt, job=record.job)
            folder.say_stop(Stop(EndCause.ENGINE_STOPPED, 0))
        if record.cancelled_at is not None and record.job is not None:
            given = timedelta(seconds=record.grace_seconds + _TERM_SECONDS)
            if self._clock.now() > record.cancelled_at + given:
                await self._jobs.end(record.job)

    def _tell(self, state: GangState) -> None:
        """Publish what differs from what was seen last, but for the logs."""
        shown = replace(state, ranks=tuple(replace(rank, log_bytes=0) for rank in state.ranks))
        if self._shown.get(state.attempt) != shown:
            self._shown[state.attempt] = shown
            self._feed.publish(state.attempt)

    def _folder(self, attempt: AttemptId) -> AttemptFolder:
        return AttemptFolder(self._config.shared / attempt, self._config.log_bytes, self._config.log_parts)

    def _save(self, record: JobRecord) -> None:
        self._records[record.attempt] = record
        try:
            self._ledger.save(record)
        except OSError as error:
            raise EngineUnavailable(f"The engine cannot write its records: {error.strerror}.") from error

    def _drop(self, record: JobRecord) -> None:
        self._records.pop(record.attempt, None)
        self._ledger.drop(record.attempt)
        self._folder(record.attempt).remove()

    def _prune(self) -> None:
        """Remove logs and tombstones of attempts whose end was on record long ago, or of the oldest of too many."""
        forgotten = sorted(
            (record for record in self._records.values() if record.forgotten_at is not None),
            key=lambda record: record.created_at,
        )
        limit = self._clock.now() - _KEPT_FOR
        surplus = len(forgotten) - _KEPT_AT_MOST
        for place, record in enumerate(forgotten):
            if place < surplus or (record.forgotten_at or limit) < limit:
                self._drop(record)
