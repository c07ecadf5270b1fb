"""The agent's door: a unix socket on which the users that are allowed to may call the supervisor's verbs."""

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import structlog

from skerry.compute.engines.base import (
    BadGang,
    Capabilities,
    EngineRefused,
    EngineUnavailable,
    EventBatch,
    GangSpec,
    GangState,
    LogChunk,
    NodeReservation,
    NodeState,
)
from skerry.compute.engines.embedded import wire
from skerry.compute.engines.embedded.config import AgentConfig
from skerry.compute.engines.embedded.roster import LOGGER
from skerry.compute.engines.embedded.supervisor import Supervisor
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId

_PEER: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_IDLE_SECONDS: Final = 60.0
_LOCK_SECONDS: Final = 2.0
_LOCK_PAUSE_SECONDS: Final = 0.02
_FORBIDDEN: Final = "forbidden"
_BAD_CALL: Final = "bad_call"

Verb = tuple[type[Any], Callable[[Any], Awaitable[object]]]


class AgentRunning(RuntimeError):
    """Another agent has this state folder."""


class Served(Protocol):
    """What an agent serves: the verbs of `Engine`, and its own life. `Supervisor` is this machine's."""

    async def capabilities(self) -> Capabilities: ...
    async def nodes(self) -> Sequence[NodeState]: ...
    async def submit(self, gang: GangSpec) -> str: ...
    async def observe(self, attempts: Sequence[AttemptId]) -> Sequence[GangState]: ...
    async def known(self) -> Sequence[AttemptId]: ...
    async def logs(self, attempt: AttemptId, rank: int, offset: int, limit: int) -> LogChunk: ...
    async def signal(self, attempt: AttemptId, number: int) -> None: ...
    async def cancel(self, attempt: AttemptId, grace_seconds: float) -> None: ...
    async def forget(self, attempt: AttemptId) -> None: ...
    async def drain(self, node: str, reason: str) -> None: ...
    async def resume(self, node: str) -> None: ...
    async def reserve(self, reservation: NodeReservation) -> None: ...
    async def release(self, name: str) -> None: ...
    async def reservations(self) -> Sequence[NodeReservation]: ...
    async def fence(self, node: str, reason: str) -> None: ...
    async def events(self, cursor: str, wait_seconds: float) -> EventBatch: ...

    def recover(self) -> None:
        """Before the first call."""

    async def run(self) -> None:
        """Until cancelled; raises where it had better be started anew."""

    async def stop(self) -> None:
        """In order."""

    def abandon(self) -> None:
        """Let go of all that runs."""


class Agent:
    """Serve `config.socket` until `stopping` is set, then end all tasks in order.

    Only one agent at a time may have a state folder: a lock that dies with its holder keeps it.
    """

    def __init__(
        self, config: AgentConfig, clock: Clock, make: Callable[[AgentConfig, Clock], Served] = Supervisor
    ) -> None:
        self._make = make
        self._config = config
        self._clock = clock
        self._log = structlog.get_logger(LOGGER)

    async def run(self, stopping: asyncio.Event, on_ready: Callable[[], None] = lambda: None) -> None:
        """Raises AgentRunning; any other error means that it lost track of a task and wants to be started again."""
        lock = await _lock(self._config.state)
        try:
            supervisor = self._make(self._config, self._clock)
            supervisor.recover()
            server = await self._listen(supervisor)
            try:
                on_ready()
                await self._until_stopped(supervisor, stopping)
            finally:
                server.close()
        finally:
            os.close(lock)

    async def _until_stopped(self, supervisor: Served, stopping: asyncio.Event) -> None:
        life = asyncio.create_task(supervisor.run())
        wish = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({life, wish}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()
            await supervisor.stop()
        finally:
            supervisor.abandon()
            for task in (life, wish):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self._config.socket.unlink(missing_ok=True)

    async def _listen(self, supervisor: Served) -> asyncio.Server:
        path = self._config.socket
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a dead agent's: the lock says that there is no living one
        door = _Door(supervisor, self._config.allowed_uids)
        with wire.address_of(path) as address:
            server = await asyncio.start_unix_server(door.serve, address)
            # Who may connect is decided by the kernel's word for the caller; the file's mode only has to let them try.
            alone = self._config.allowed_uids <= {os.geteuid()}
            Path(address).chmod(0o600 if alone else 0o666)
        return server


class _Door:
    def __init__(self, supervisor: Served, allowed_uids: frozenset[int]) -> None:
        self._allowed = allowed_uids
        self._verbs = _verbs(supervisor)
        self._log = structlog.get_logger(LOGGER)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: calls one after another, until the caller closes or is silent for long."""
        try:
            allowed = self._may_call(writer)
            while True:
                async with asyncio.timeout(_IDLE_SECONDS):
                    frame = await wire.read_frame(reader)
                if frame is None:
                    return
                if not allowed:
                    await wire.write_frame(writer, _problem(_FORBIDDEN, "This user may not call the agent."))
                    return
                await wire.write_frame(writer, await self._answer(frame))
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, wire.FrameTooLarge) as error:
            self._log.info("connection_dropped", error=type(error).__name__)
        finally:
            writer.close()

    def _may_call(self, writer: asyncio.StreamWriter) -> bool:
        connection = writer.get_extra_info("socket")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid, uid, _ = _PEER.unpack(credentials)
        if uid not in self._allowed:
            self._log.warning("caller_refused", pid=pid, uid=uid)
            return False
        return True

    async def _answer(self, frame: bytes) -> wire.Reply:
        try:
            call = msgspec.msgpack.decode(frame, type=wire.Call)
            if call.version != wire.VERSION:
                return _problem(_BAD_CALL, "The agent is of another version: start it again.")
            if call.verb not in self._verbs:
                return _problem(_BAD_CALL, f"There is no verb {call.verb!r}.")
            kind, act = self._verbs[call.verb]
            body = msgspec.msgpack.decode(call.body, type=kind)
            return wire.Reply(body=wire.pack(await act(body)))
        except EngineRefused as error:
            return _problem(error.code, error.detail)
        except EngineUnavailable as error:
            return _problem(EngineUnavailable.code, error.detail)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            return _problem(BadGang.code, f"The call cannot be read: {error}")
        except Exception as error:  # one caller's mishap must not take the others' tasks along
            self._log.error("call_failed", exc_info=error)
            return _problem("internal_error", "The agent failed to do this; its log says why.")


def _verbs(supervisor: Served) -> dict[str, Verb]:
    """Verb → (type of its body, what it does)."""
    return {
        "capabilities": (type(None), lambda _: supervisor.capabilities()),
        "nodes": (type(None), lambda _: supervisor.nodes()),
        "submit": (GangSpec, supervisor.submit),
        "observe": (list[AttemptId], supervisor.observe),
        "known": (type(None), lambda _: supervisor.known()),
        "logs": (wire.ReadLog, lambda b: supervisor.logs(AttemptId(b.attempt), b.rank, b.offset, b.limit)),
        "signal": (wire.SendSignal, lambda b: supervisor.signal(AttemptId(b.attempt), b.number)),
        "cancel": (wire.Cancel, lambda b: supervisor.cancel(AttemptId(b.attempt), b.grace_seconds)),
        "forget": (str, lambda b: supervisor.forget(AttemptId(b))),
        "drain": (wire.Drain, lambda b: supervisor.drain(b.node, b.reason)),
        "resume": (str, supervisor.resume),
        "reserve": (NodeReservation, supervisor.reserve),
        "release": (str, supervisor.release),
        "reservations": (type(None), lambda _: supervisor.reservations()),
        "fence": (wire.Fence, lambda b: supervisor.fence(b.node, b.reason)),
        "events": (wire.Events, lambda b: supervisor.events(b.cursor, b.wait_seconds)),
    }


def _problem(code: str, message: str) -> wire.Reply:
    return wire.Reply(problem=wire.Problem(code, message))


async def _lock(folder: Path) -> int:
    """Held until its descriptor is closed.

    An agent that was killed while starting a task leaves the lock with the child until that executes its command:
    once the lock is had, every task there is carries its mark and can be found.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        async with asyncio.timeout(_LOCK_SECONDS):
            while not _try_lock(lock):
                await asyncio.sleep(_LOCK_PAUSE_SECONDS)
    except TimeoutError:
        os.close(lock)
        raise AgentRunning(f"another agent is running with {folder}") from None
    return lock


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
