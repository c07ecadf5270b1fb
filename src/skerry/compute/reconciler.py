"""Brings each workload from where it is to where it is wanted, one step at a time.

The row's status says what was decided, the engine what is; nothing is remembered between steps. An attempt's row is
written before the engine hears of it, and the engine starts an attempt at most once, so a controller may die anywhere.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol

from skerry.compute.advance import Advance
from skerry.compute.changes import KIND
from skerry.compute.engines.base import (
    BadGang,
    Engine,
    EngineRefused,
    EngineUnavailable,
    GangSpec,
    GangState,
    GangStatus,
    Limits,
    NodeNotReady,
    NodeState,
    Placement,
)
from skerry.compute.model import Attempt, Desired, Outcome, Workload, WorkloadKind, WorkloadStatus
from skerry.compute.service import purpose_of
from skerry.compute.steps import Away, Dropped, Finding, Nodes, Refused, Seen
from skerry.compute.store import Claimed, Work
from skerry.compute.task.order import TOKEN_FILE
from skerry.compute.task.wrapping import WrapContext, Wrapped, needs_wrapping
from skerry.db.database import Database
from skerry.kernel.clock import Clock
from skerry.runtime.secrets import Keyring, Undecryptable

LEASE_SECONDS: Final = 15.0
"""A controller that dies holds up what it was at for so long; a step that takes longer is done again, to no harm."""
_RETRY_SECONDS: Final = 5.0
_TAIL_BYTES: Final = 4096
API_URL: Final = "SKERRY_API_URL"


class Wrapper(Protocol):
    """Who makes our wrapper's order of a workload that runs what a customer gave (`TaskContexts`)."""

    async def wrap(self, workload: Workload, attempt: Attempt, files: Mapping[str, str]) -> Wrapped:
        """Raises BadGang."""
        ...

    async def of(self, workload: Workload, attempt: Attempt) -> WrapContext: ...


class WorkloadReconciler:
    """Run it with `Loop(…, wake=wakes.event("workload"), poll_seconds=1)`: back-offs end by the clock alone."""

    kind = KIND

    def __init__(
        self,
        db: Database,
        clock: Clock,
        keyring: Keyring,
        engines: Mapping[str, Engine],
        advance: Advance,
        wrapper: Wrapper | None = None,
    ) -> None:
        """Without a `wrapper` nothing runs that a customer gave."""
        self._db = db
        self._clock = clock
        self._keyring = keyring
        self._engines = engines
        self._advance = advance
        self._wrapper = wrapper
        self._work = Work()

    async def claim(self, limit: int) -> Sequence[Claimed]:
        async with self._db.transaction() as tx:
            return await self._work.claim(tx, self._clock.now(), limit, LEASE_SECONDS)

    async def step(self, row: Claimed) -> Finding:
        try:
            if row.workload.status is WorkloadStatus.PENDING:
                return await self._look_for_nodes(row.workload)
            return await self._look_at_attempt(row)
        except EngineUnavailable as error:
            return Away(error.detail)

    async def apply(self, row: Claimed, change: Finding | None) -> bool:
        assert change is not None, "every look finds something"
        now = self._clock.now()
        async with self._db.transaction() as tx:
            current = await self._work.lock(tx, row)
            if current is None:
                return False
            after = await self._advance.write(tx, current.workload, change)
            hinted = current.hints != row.hints
            await self._work.release(tx, row, now if hinted else now + timedelta(seconds=after.seconds))
        if after.forget and (attempt := row.workload.attempt) is not None:
            await self._forget(attempt)
        return after.changed or hinted

    async def failed(self, row: Claimed, error: Exception) -> None:
        async with self._db.transaction() as tx:
            await self._work.release(tx, row, self._clock.now() + timedelta(seconds=_RETRY_SECONDS))

    async def _look_for_nodes(self, workload: Workload) -> Finding:
        if workload.desired is Desired.STOP:
            return Dropped()
        if workload.spec.customer_code and self._advance.isolation is not None:
            await self._advance.isolation.look()
        found: dict[str, Sequence[NodeState]] = {}
        away = "There is no engine."
        for name, engine in self._engines.items():
            try:
                found[name] = await engine.nodes()
            except EngineUnavailable as error:
                away = error.detail
        return Nodes(found) if found else Away(away)

    async def _look_at_attempt(self, row: Claimed) -> Finding:
        workload, attempt = row.workload, row.workload.open_attempt
        assert attempt is not None, "what is neither pending nor ended has an open attempt"
        engine = self._engines.get(attempt.engine)
        if engine is None:
            return Away(f"Engine {attempt.engine} is not configured here.")
        if workload.desired is Desired.STOP:
            return await self._cancel(engine, attempt, workload.spec.grace_seconds)
        async with self._db.reading() as tx:
            leaving = await self._advance.leaving(tx, workload)
        if leaving is not None:
            left = (leaving.by - self._clock.now()).total_seconds()
            return await self._cancel(engine, attempt, max(0.0, left))
        if attempt.submitted_at is None:
            return await self._submit(engine, row, attempt)
        return await self._see(engine, attempt)

    async def _cancel(self, engine: Engine, attempt: Attempt, grace_seconds: float) -> Finding:
        seen = await self._see(engine, attempt)
        told = seen.state is not None and seen.state.status in (GangStatus.STOPPING, GangStatus.ENDED)
        if told:
            return replace(seen, cancelled=True)
        # Also where the engine does not know it: a submit may be on its way, and finds it ended.
        await engine.cancel(attempt.id, grace_seconds)
        return replace(await self._see(engine, attempt), cancelled=True)

    async def _submit(self, engine: Engine, row: Claimed, attempt: Attempt) -> Finding:
        try:
            gang = await self._gang(row, attempt)
            await engine.submit(gang)
        except NodeNotReady as error:
            return Refused(error.detail, for_good=False)
        except EngineRefused as error:
            return Refused(error.detail, for_good=True)
        except Undecryptable:
            return Refused("its secret files cannot be decrypted: the installation's key has changed", for_good=True)
        return await self._see(engine, attempt, submitted=True)

    async def _see(self, engine: Engine, attempt: Attempt, *, submitted: bool = False) -> Seen:
        state = (await engine.observe([attempt.id])).get(attempt.id)
        log = await _last_lines(engine, state) if state is not None and state.status is GangStatus.ENDED else b""
        return Seen(state, submitted=submitted, log=log)

    async def _gang(self, row: Claimed, attempt: Attempt) -> GangSpec:
        """With our wrapper in the command's place where it runs what a customer gave. Raises BadGang."""
        files = self._open_files(row)
        gang = gang_of(row.workload, attempt, files)
        if needs_wrapping(row.workload.spec):
            if self._wrapper is None:
                raise BadGang("this installation runs nothing that customers bring.")
            inner = await self._wrapper.wrap(row.workload, attempt, files)
            return replace(gang, command=inner.command, env=inner.env, files=inner.files, drop=inner.drop)
        if row.workload.kind is WorkloadKind.INSTANCE and self._wrapper is not None:
            # Programs of ours that call the node API by themselves.
            access = await self._wrapper.of(row.workload, attempt)
            env = {**gang.env, API_URL: access.api_url}
            return replace(gang, env=env, files={**files, TOKEN_FILE: access.token})
        return gang

    def _open_files(self, row: Claimed) -> Mapping[str, str]:
        if row.files is None:
            return {}
        files: dict[str, str] = json.loads(self._keyring.decrypt(row.files, purpose_of(row.workload.id)))
        return files

    async def _forget(self, attempt: Attempt) -> None:
        """Its end is on record. Should this fail, the sweeper does it."""
        with suppress(EngineUnavailable, EngineRefused):
            await self._engines[attempt.engine].forget(attempt.id)


def gang_of(workload: Workload, attempt: Attempt, files: Mapping[str, str]) -> GangSpec:
    spec = workload.spec
    return GangSpec(
        attempt=attempt.id,
        workload=workload.id,
        project=workload.project,
        placements=tuple(Placement(node, spec.tasks // spec.nodes, devices) for node, devices in attempt.by_node),
        command=spec.command,
        env=spec.env,
        files=files,
        limits=Limits(
            memory_bytes=spec.memory_bytes,
            address_space_bytes=spec.address_space_bytes,
            cpu_seconds=spec.cpu_seconds,
            open_files=spec.open_files,
            processes=spec.processes,
        ),
        drop=spec.drop,
        grace_seconds=spec.grace_seconds,
    )


async def _last_lines(engine: Engine, state: GangState) -> bytes:
    """The end of the log of the rank that decided, where it did not end well."""
    ended = [rank for rank in state.ranks if rank.end is not None and rank.end == state.end]
    if not ended or state.end is None or state.end.outcome in (Outcome.SUCCEEDED, Outcome.CANCELLED):
        return b""
    rank = ended[0]
    try:
        chunk = await engine.logs(state.attempt, rank.rank, max(0, rank.log_bytes - _TAIL_BYTES), _TAIL_BYTES)
    except (EngineRefused, EngineUnavailable):
        return b""
    return chunk.data
