"""The gateway: what all connections share, and the loop's housekeeping."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from skerry.inference.gateway import admission
from skerry.inference.gateway.balances import Balances, Bank
from skerry.inference.gateway.connection import ClientConnection, Exchange, HttpRequest
from skerry.inference.gateway.errors import ApiError, unavailable
from skerry.inference.gateway.exchange import InferenceExchange
from skerry.inference.gateway.metrics import GatewayMetrics
from skerry.inference.gateway.passage import Passage
from skerry.inference.gateway.snapshot import KeyState, ReplicaState, Snapshot
from skerry.inference.gateway.tokens import count_prompt
from skerry.inference.gateway.upstream import Address, Pool
from skerry.inference.gateway.waiting import WaitingRoom
from skerry.inference.gateway.wire import Request
from skerry.inference.model import Route
from skerry.runtime.journal.records import Mark
from skerry.runtime.journal.writer import JournalWriter
from skerry.runtime.settings import Settings

SWEEP_SECONDS = 0.5
MARK_SECONDS = 1.0
IDLE_MARK_SECONDS = 5.0
DOWN_SECONDS = 0.5
MAX_ANSWER = 64 * 1024 * 1024
HOT = {b"/v1/chat/completions": True, b"/v1/completions": False}
"""Paths answered here; the value says whether it is a chat."""

Digest = Callable[[bytes], tuple[bytes, ...]]
AccountsWanted = Callable[[KeyState, Callable[[], None]], None]


class Gateway:
    """One per process. Built in `server/roles/gateway.py`; `snapshot` is kept current by `control`."""

    def __init__(self, settings: Settings, journal: JournalWriter, bank: Bank, hmacs: Digest) -> None:
        self.now = time.monotonic
        self.snapshot = Snapshot()
        self.journal = journal
        self.metrics = GatewayMetrics()
        self.log = structlog.get_logger("gateway")
        self.balances = Balances(bank, self.now, self.spawn)
        self.waiting_room = WaitingRoom(settings.queue_limit, settings.queue_seconds, self.now)
        self.accounts_wanted: AccountsWanted = lambda key, retry: retry()
        """Called for a key whose accounts are not known; `control` sets it."""
        self.connections: set[ClientConnection] = set()
        self.in_flight: dict[InferenceExchange, None] = {}
        """In order of admission: the first is the oldest."""
        self.max_body = settings.max_body_bytes
        self.max_answer = MAX_ANSWER
        self.silence_seconds = settings.answer_timeout_seconds
        self.down_seconds = DOWN_SECONDS
        self.draining = False
        self.buffered = 0
        """Bytes of request bodies that are being received."""
        self._hmacs = hmacs
        self._server = Pool(Address.parse(settings.server_url))
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random(os.urandom(32))

    # --- for connections
    def exchange_for(self, client: ClientConnection, http: HttpRequest) -> Exchange:
        chat = HOT.get(http.target.partition(b"?")[0]) if http.method == b"POST" else None
        if chat is None:
            return Passage(self, client, http, self._server)
        return InferenceExchange(self, client, http, chat)

    def key_of(self, http: HttpRequest) -> KeyState:
        """The key behind a request. Raises ApiError 401, 403."""
        return http.key or admission.authenticate(self.snapshot, self.digest(http.authorization))

    def check_head(self, http: HttpRequest) -> None:
        """Of a request to a hot path, before its body is read: strangers' bodies take no memory. Raises ApiError."""
        if http.target.partition(b"?")[0] not in HOT:
            return
        if http.method != b"POST":
            path = http.target.partition(b"?")[0].decode()
            raise ApiError(405, f"{path} takes POST.", code="method_not_allowed", headers=b"allow: POST\r\n")
        if self.snapshot.is_trusted(self.now()):
            http.key = self.key_of(http)

    def digest(self, authorization: bytes) -> bytes | None:
        """The digest under which a bearer token's key is known, if any; None where no bearer token was sent."""
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not secret:
            return None
        digests = self._hmacs(secret.strip())
        if len(digests) == 1:
            return digests[0]
        return next((digest for digest in digests if digest in self.snapshot.keys), digests[0])

    def new_id(self) -> bytes:
        """16 bytes laid out as a UUIDv7. They need to be unique, not secret."""
        stamp = time.time_ns() // 1_000_000
        rest = self._random.getrandbits(76)
        return (stamp << 80 | 7 << 76 | (rest >> 62 & 0xFFF) << 64 | 2 << 62 | rest & (1 << 62) - 1).to_bytes(16)

    def new_request_id(self) -> str:
        return self.new_id().hex()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside everything else; the gateway keeps hold of it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def count_prompt(self, replica: ReplicaState, route: Route, request: Request) -> int:
        return await count_prompt(replica, route, request)

    def journal_failed(self, error: OSError) -> None:
        self.journal.has_room = False
        self.journal.trouble = str(error)
        self.log.error("journal_failed", error=str(error))

    # --- the loop's housekeeping
    async def keep_house(self, stopping: asyncio.Event) -> None:
        """Sweep deadlines and mark the journal, until told to stop; then let the answers under way finish."""
        marked, written = 0.0, 0
        while not stopping.is_set():
            self._sweep()
            # Nothing new to say: less often, since each mark becomes a transaction.
            due = MARK_SECONDS if self.journal.written > written else IDLE_MARK_SECONDS
            if self.now() - marked >= due:
                marked = self.now()
                self.mark()
                written = self.journal.written
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), SWEEP_SECONDS)

    def mark(self) -> None:
        """Say in the journal how far it is complete."""
        oldest = next(iter(self.in_flight), None)
        through = oldest.admitted_at if oldest is not None else time.time_ns() // 1000
        try:
            self.journal.append(Mark(through))
        except OSError as error:
            self.journal_failed(error)

    async def drain(self, seconds: float) -> None:
        """No new requests; the ones under way get this long."""
        self.draining = True
        deadline = self.now() + seconds
        while self.in_flight and self.now() < deadline:
            self._sweep()
            await asyncio.sleep(0.05)
        for exchange in list(self.in_flight):
            exchange.give_up(unavailable("The gateway is shutting down.", code="shutting_down"))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        for client in list(self.connections):
            client.transport.close()
        self.mark()

    def _sweep(self) -> None:
        now = self.now()
        for client in [client for client in self.connections if client.deadline < now]:
            client.expire()
        if len(self.waiting_room):
            self.waiting_room.sweep(self.snapshot.routes)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log.error("task_failed", exc_info=task.exception())
