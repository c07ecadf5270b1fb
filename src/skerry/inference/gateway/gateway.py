"""The gateway: what all connections share, and the loop's housekeeping."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from skerry.inference.gateway import admission
from skerry.inference.gateway.answering import Answering
from skerry.inference.gateway.balances import Balances, Bank
from skerry.inference.gateway.charge import Charge
from skerry.inference.gateway.connection import ClientConnection, Exchange
from skerry.inference.gateway.content import Content
from skerry.inference.gateway.errors import ApiError, unavailable
from skerry.inference.gateway.exchange import InferenceExchange
from skerry.inference.gateway.kinds import KINDS
from skerry.inference.gateway.metrics import GatewayMetrics
from skerry.inference.gateway.passage import UPLOADS, Passage
from skerry.inference.gateway.request import HttpRequest
from skerry.inference.gateway.snapshot import Snapshot
from skerry.inference.gateway.state import KeyState, ReplicaState, RouteState
from skerry.inference.gateway.tickets import BadTicket, Tickets
from skerry.inference.gateway.tokens import count_prompt
from skerry.inference.gateway.upstream import Address, Pool
from skerry.inference.gateway.waiting import WaitingRoom
from skerry.inference.gateway.wire import AnyRequest
from skerry.inference.model import Route
from skerry.inference.requests.content import ContentSealer
from skerry.runtime.journal.records import Mark
from skerry.runtime.journal.writer import JournalWriter
from skerry.runtime.settings import Settings

SWEEP_SECONDS = 0.5
MARK_SECONDS = 1.0
IDLE_MARK_SECONDS = 5.0
DOWN_SECONDS = 0.5
MAX_ANSWER = 64 * 1024 * 1024
UPLOAD_OVERHEAD: Final = 1024 * 1024
"""What a form adds to the file in it."""
FIRST_BYTE_SECONDS: Final = 60.0
"""Silence before the first byte of a stream after which another replica is asked, where there is one."""
HOT: Final = {kind.path.encode(): kind for kind in KINDS}
"""Paths answered here."""
POOL_IDS: Final = 512
ID_PART: Final = 10
"""Bytes of an id after its time."""
_ID_KEEPS: Final = int.from_bytes(b"\x0f\xff\x3f\xff\xff\xff\xff\xff\xff\xff" * POOL_IDS, "big")
_ID_SETS: Final = int.from_bytes(b"\x70\x00\x80\x00\x00\x00\x00\x00\x00\x00" * POOL_IDS, "big")
"""Version and variant, RFC 9562."""

Digest = Callable[[bytes], tuple[bytes, ...]]
AccountsWanted = Callable[[KeyState, Callable[[], None]], None]


class Gateway:
    """One per process. Built in `server/roles/gateway.py`; `snapshot` is kept current by `control`."""

    def __init__(
        self, settings: Settings, journal: JournalWriter, bank: Bank, hmacs: Digest,
        tickets: Tickets | None = None, sealer: ContentSealer | None = None,
    ) -> None:  # fmt: skip
        self.now: Callable[[], float] = time.monotonic
        self.tick: float = time.monotonic()
        """`now` as of the last sweep: good enough for deadlines of minutes."""
        self.metrics: GatewayMetrics = GatewayMetrics()
        self.snapshot: Snapshot = Snapshot(self.metrics, settings.queue_limit, int.from_bytes(os.urandom(4)))
        self.journal: JournalWriter = journal
        self.log = structlog.get_logger("gateway")
        self.balances: Balances = Balances(bank, self.now, self.spawn)
        self.demand_wanted: Callable[[], None] = _nothing
        """Called when a request waits for an endpoint that has no replica; `control` sets it."""
        self.waiting_room: WaitingRoom = WaitingRoom(settings.queue_seconds, self.now, self._awaited)
        self.accounts_wanted: AccountsWanted = _no_accounts
        """Called for a key whose accounts are not known; `control` sets it."""
        self.connections: set[ClientConnection] = set()
        self.in_flight: dict[Answering, None] = {}
        """In order of admission: the first is the oldest."""
        self.max_body: int = settings.max_body_bytes
        self.max_upload: int = settings.max_file_bytes + UPLOAD_OVERHEAD
        self.max_answer = MAX_ANSWER
        self.silence_seconds: float = settings.answer_timeout_seconds
        self.first_byte_seconds: float = min(FIRST_BYTE_SECONDS, settings.answer_timeout_seconds)
        self.down_seconds: float = DOWN_SECONDS
        self.draining = False
        self.buffered = 0
        """Bytes of request bodies that are being received."""
        self._hmacs: Digest = hmacs
        self._tickets: Tickets | None = tickets
        self._sealer: ContentSealer | None = sealer
        self._server: Pool = Pool(Address.parse(settings.server_url))
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids = b""
        """Random parts of ids to come, one after the other."""
        self._next_id = 0
        self._id_time = 0
        self._id_start = b""
        """The milliseconds of the last id, as ids begin."""

    # --- for connections
    def exchange_for(self, client: ClientConnection, http: HttpRequest) -> Exchange:
        kind = HOT.get(http.path) if http.method == b"POST" else None
        if kind is None:
            return Passage(self, client, http, self._server)
        return InferenceExchange(self, client, http, kind)

    def body_limit(self, http: HttpRequest) -> int:
        """Bytes its body may have. Above `max_body` it is not kept in memory."""
        return self.max_upload if http.method == b"POST" and http.path in UPLOADS else self.max_body

    def key_of(self, client: ClientConnection, http: HttpRequest) -> KeyState:
        """The key behind a request. Raises ApiError 401, 403."""
        key = http.key
        if key is None:
            key = http.key = self._look_up(client, http)
        return key

    def check_head(self, client: ClientConnection, http: HttpRequest) -> None:
        """Of a request to a hot path, before its body is read: strangers' bodies take no memory. Raises ApiError."""
        if http.path not in HOT:
            return
        if http.method != b"POST":
            message = f"{http.path.decode()} takes POST."
            raise ApiError(405, message, code="method_not_allowed", headers=b"allow: POST\r\n")
        if self.snapshot.is_trusted(self.now()):
            http.key = self._look_up(client, http)

    def check_surge(self, route: RouteState, key: KeyState, now: float) -> None:
        """When demand surges, free tiers are slowed before paying ones. Raises ApiError 429."""
        if not key.slowable:
            return
        gate = route.surge
        busy, slots = route.load()
        gate.observe(busy + len(route.queue), slots, now)
        if not gate.admit(key.tier, key.project):
            words = gate.words(key.tier).encode()
            message = f"The model '{route.route.name}' is in great demand, and the free tier is slowed. Try again soon."
            headers = b"x-skerry-throttle: %b\r\n" % words
            raise ApiError(429, message, code="tier_throttled", retry_after=2, headers=headers)

    def throttle_header(self, route: RouteState, key: KeyState) -> str:
        """Says so where this key's tier is being slowed."""
        if not key.slowable:
            return ""
        words = route.surge.words(key.tier)
        return f"x-skerry-throttle: {words}\r\n" if words else ""

    def _look_up(self, client: ClientConnection, http: HttpRequest) -> KeyState:
        authorization = http.authorization
        known = client.key
        if known is not None and authorization == client.authorization:
            admission.check_key(known)
            return known
        if authorization[:13].lower() == b"skerry-batch ":
            return self._key_of_ticket(http, authorization)
        key = admission.authenticate(self.snapshot, self.digest(authorization))
        client.authorization = authorization
        client.key = key
        return key

    def _key_of_ticket(self, http: HttpRequest, authorization: bytes) -> KeyState:
        """The key on which a row of a batch runs."""
        tickets = self._tickets
        if tickets is None:
            raise ApiError(401, "Batch tickets are not taken here.", code="unknown_key")
        try:
            ticket = tickets.verify(authorization.decode("latin-1"), time.time())
        except BadTicket as error:
            raise ApiError(401, f"This batch ticket is not valid: {error}.", code="bad_ticket") from None
        key = self.snapshot.keys_by_id.get(ticket.key)
        if key is None or key.project != ticket.project:
            raise ApiError(401, "The API key of this batch is gone.", code="unknown_key")
        admission.check_key(key)
        http.ticket = ticket
        return key

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
        return self.new_id_at(time.time_ns() // 1000)

    def new_id_at(self, now: int) -> bytes:
        """The same with the time, Unix microseconds."""
        place = self._next_id
        if place == len(self._ids):
            self._ids = _random_parts()
            place = 0
        self._next_id = place + ID_PART
        milliseconds = now // 1000
        if milliseconds != self._id_time:
            self._id_time = milliseconds
            self._id_start = milliseconds.to_bytes(6, "big")
        return self._id_start + self._ids[place : place + ID_PART]

    def new_request_id(self) -> str:
        return self.new_id().hex()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside everything else; the gateway keeps hold of it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def count_prompt(self, replica: ReplicaState, route: Route, request: AnyRequest) -> int:
        return await count_prompt(replica, route, request)

    def journal_failed(self, error: OSError) -> None:
        self.journal.has_room = False
        self.journal.trouble = str(error)
        self.log.error("journal_failed", error=str(error))

    def keep_content(self, content: Content, charge: Charge) -> None:
        """Into the journal, sealed, where there is room: it is not usage. Raises OSError."""
        if self._sealer is not None and self.journal.has_room:
            now = time.time_ns() // 1000
            self.journal.append(
                self._sealer.seal(charge.id, charge.key.project, now, content.request, content.answer())
            )

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
        marked = self.now()
        while self._busy() and self.now() < deadline:
            self._sweep()
            if self.now() - marked >= MARK_SECONDS:
                marked = self.now()
                self.mark()
            await asyncio.sleep(0.05)
        for exchange in list(self.in_flight):
            exchange.give_up(unavailable("The gateway is shutting down.", code="shutting_down"))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        for client in list(self.connections):
            client.transport.close()
        self.mark()

    def _busy(self) -> bool:
        """Whether answers are under way, of the control API too."""
        return bool(self.in_flight) or any(client.is_busy() for client in self.connections)

    def _sweep(self) -> None:
        now = self.tick = self.now()
        for client in [client for client in self.connections if client.deadline < now]:
            client.expire()
        self.waiting_room.sweep(self.snapshot.routes.values())

    def _awaited(self) -> None:
        self.demand_wanted()

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log.error("task_failed", exc_info=task.exception())


def _random_parts() -> bytes:
    """What follows the time in a UUIDv7, for many of them."""
    noise = int.from_bytes(os.urandom(ID_PART * POOL_IDS), "big")
    return (noise & _ID_KEEPS | _ID_SETS).to_bytes(ID_PART * POOL_IDS, "big")


def _nothing() -> None:
    pass


def _no_accounts(key: KeyState, retry: Callable[[], None]) -> None:
    retry()
