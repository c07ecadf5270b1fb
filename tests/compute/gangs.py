"""Gangs to run on an engine, and what to wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic
from typing import TypeVar

from skerry.compute.engines.base import Engine, GangSpec, GangState, GangStatus, Placement
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId, new_id

T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[T]], seconds: float = 60.0) -> T:
    """The first true answer of `condition`, asked again and again."""
    deadline = monotonic() + seconds
    while True:
        if answer := await condition():
            return answer
        assert monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)


def gang_spec(*command: str, tasks: int = 1, **changes: object) -> GangSpec:
    spec = GangSpec(
        attempt=AttemptId(new_id("att")),
        workload=WorkloadId(new_id("wl")),
        project=ProjectId("prj_test"),
        placements=(Placement("local-1", tasks),),
        command=command,
        grace_seconds=1.0,
    )
    return replace(spec, **changes)


def shell(script: str, **changes: object) -> GangSpec:
    return gang_spec("/bin/sh", "-c", script, **changes)


async def state_of(engine: Engine, spec: GangSpec) -> GangState | None:
    return (await engine.observe([spec.attempt])).get(spec.attempt)


async def ended(engine: Engine, spec: GangSpec, seconds: float = 60.0) -> GangState:
    async def has_ended() -> GangState | None:
        state = await state_of(engine, spec)
        assert state is not None, "the engine does not know it"
        return state if state.status is GangStatus.ENDED else None

    return await until(has_ended, seconds)


async def started(engine: Engine, spec: GangSpec) -> GangState:
    """Submit it, and wait until all its ranks run."""
    await engine.submit(spec)

    async def runs() -> GangState | None:
        state = await state_of(engine, spec)
        assert state is not None and state.status is not GangStatus.ENDED, state
        return state if state.ranks and all(rank.started_at for rank in state.ranks) else None

    return await until(runs)


async def run(engine: Engine, spec: GangSpec, seconds: float = 60.0) -> GangState:
    await engine.submit(spec)
    return await ended(engine, spec, seconds)


async def output(engine: Engine, spec: GangSpec, rank: int = 0) -> str:
    data, offset = b"", 0
    while True:
        chunk = await engine.logs(spec.attempt, rank, offset, 1 << 20)
        data, offset = data + chunk.data, chunk.next_offset
        if not chunk.data:
            return data.decode()
