"""The embedded engine as its callers see it: each call is one connection to the agent's socket."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, TypeVar

import msgspec

from skerry.compute.engines.base import (
    BadGang,
    Capabilities,
    EngineRefused,
    EngineUnavailable,
    EventBatch,
    GangSpec,
    GangState,
    LogChunk,
    NodeNotReady,
    NodeReservation,
    NodeState,
    NotFenced,
    ReservationRefused,
    UnknownAttempt,
)
from skerry.compute.engines.embedded import wire
from skerry.kernel.ids import AttemptId

T = TypeVar("T")

_CALL_SECONDS: Final = 10.0
_KINDS: Final = (UnknownAttempt, NodeNotReady, BadGang, ReservationRefused, NotFenced, EngineRefused)
_REFUSALS: Final = {kind.code: kind for kind in _KINDS}


class EmbeddedEngine:
    """Implements `Engine`. It holds no connection, so an agent that was restarted is simply there again."""

    name: ClassVar[str] = "embedded"

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def capabilities(self) -> Capabilities:
        return await self._call("capabilities", None, Capabilities)

    async def nodes(self) -> Sequence[NodeState]:
        return await self._call("nodes", None, list[NodeState])

    async def submit(self, gang: GangSpec) -> str:
        return await self._call("submit", gang, str)

    async def observe(self, attempts: Sequence[AttemptId]) -> Mapping[AttemptId, GangState]:
        states = await self._call("observe", list(attempts), list[GangState])
        return {state.attempt: state for state in states}

    async def known(self) -> Sequence[AttemptId]:
        return await self._call("known", None, list[AttemptId])

    async def logs(self, attempt: AttemptId, rank: int, offset: int, limit: int) -> LogChunk:
        return await self._call("logs", wire.ReadLog(attempt, rank, offset, limit), LogChunk)

    async def signal(self, attempt: AttemptId, number: int) -> None:
        await self._call("signal", wire.SendSignal(attempt, number), type(None))

    async def cancel(self, attempt: AttemptId, grace_seconds: float) -> None:
        await self._call("cancel", wire.Cancel(attempt, grace_seconds), type(None))

    async def forget(self, attempt: AttemptId) -> None:
        await self._call("forget", attempt, type(None))

    async def drain(self, node: str, reason: str) -> None:
        await self._call("drain", wire.Drain(node, reason), type(None))

    async def resume(self, node: str) -> None:
        await self._call("resume", node, type(None))

    async def reserve(self, reservation: NodeReservation) -> None:
        await self._call("reserve", reservation, type(None))

    async def release(self, name: str) -> None:
        await self._call("release", name, type(None))

    async def reservations(self) -> Sequence[NodeReservation]:
        return await self._call("reservations", None, list[NodeReservation])

    async def fence(self, node: str, reason: str) -> None:
        await self._call("fence", wire.Fence(node, reason), type(None))

    async def events(self, cursor: str, wait_seconds: float) -> EventBatch:
        seconds = _CALL_SECONDS + wait_seconds
        return await self._call("events", wire.Events(cursor, wait_seconds), EventBatch, seconds)

    async def _call(self, verb: str, body: object, kind: type[T], seconds: float = _CALL_SECONDS) -> T:
        try:
            async with asyncio.timeout(seconds):
                frame = await self._exchange(wire.Call(verb, wire.pack(body)))
        except TimeoutError:
            raise EngineUnavailable(f"The agent has not answered within {seconds:g} s.") from None
        except (OSError, asyncio.IncompleteReadError):
            raise EngineUnavailable("The agent is not running.") from None
        reply = msgspec.msgpack.decode(frame, type=wire.Reply)
        if reply.problem is not None:
            raise _error(reply.problem)
        return msgspec.msgpack.decode(reply.body, type=kind)

    async def _exchange(self, call: wire.Call) -> bytes:
        with wire.address_of(self._socket) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        try:
            await wire.write_frame(writer, call)
            frame = await wire.read_frame(reader)
        finally:
            writer.close()
        if frame is None:
            raise ConnectionResetError
        return frame


def _error(problem: wire.Problem) -> Exception:
    if problem.code in _REFUSALS:
        return _REFUSALS[problem.code](problem.message)
    return EngineUnavailable(problem.message)
