"""One inference request on its way: admitted, sent to a replica, answered. `answering` is how it ends."""

from typing import TYPE_CHECKING, Final

import msgspec

from skerry.inference.gateway import admission, sse
from skerry.inference.gateway.answering import Answering
from skerry.inference.gateway.charge import Charge
from skerry.inference.gateway.content import Content
from skerry.inference.gateway.errors import ApiError, unavailable
from skerry.inference.gateway.kinds import CHAT, COMPLETION
from skerry.inference.gateway.refusals import from_engine
from skerry.inference.gateway.shapes import BadStream
from skerry.inference.gateway.state import ReplicaState, RouteState
from skerry.inference.gateway.translate import translate
from skerry.inference.gateway.upstream import UpstreamConnection
from skerry.inference.gateway.wire import (
    AnyRequest,
    ChatRequest,
    EmbeddingsRequest,
    StreamOptions,
    chat_decoder,
    completion_decoder,
    embeddings_decoder,
    encode,
    encoder,
    parse,
)

if TYPE_CHECKING:
    pass

MAX_ATTEMPTS: Final = 3
_INCLUDE_USAGE: Final = StreamOptions(include_usage=True)


class InferenceExchange(Answering):
    """A chat or text completion, streamed or not, or embeddings."""

    # --- admission
    def start(self) -> None:
        self._gateway.in_flight[self] = None
        try:
            self._admit()
        except ApiError as error:
            self._refuse(error)

    def _admit(self) -> None:
        gateway = self._gateway
        now = gateway.now()
        if not gateway.snapshot.is_trusted(now):
            raise unavailable("The gateway has not heard from its database for too long", code="database_unavailable")
        http = self._http
        key = gateway.key_of(self._client, http)
        ticket = self._ticket = http.ticket
        if ticket is not None:
            self.id = ticket.id
            self._request_id = self.id.hex()
            self._reply.batch = ticket.batch
        body = http.body
        kind = self._kind
        request = _parsed(kind.number, body)
        route = admission.find_route(gateway.snapshot, key, request.model)
        admission.check_parameters(route, request, kind)
        if not gateway.journal.has_room:
            raise unavailable("No usage can be recorded now, so nothing is served", code="journal_full", retry_after=5)
        prompt, completion = admission.ceiling_tokens(route, request, len(body))
        if ticket is None:
            gateway.check_surge(route, key, now)
            admission.take_rate(key, now)
            self._key = key
        self._request = request
        if type(request) is not EmbeddingsRequest and request.stream:
            if ticket is not None:
                raise ApiError(400, "Rows of batches are not streamed.", code="unsupported_parameter", param="stream")
            self._stream = self._reply.stream = True
            self._wants_usage = request.stream_options is not None and request.stream_options.include_usage
        if http.trace:
            self._reply.trace = http.trace
        if key.log_content:
            self._content = Content(body)
        charge = self._charge = Charge(gateway, self.id, self.admitted_at, key, route, ticket is not None)
        charge.bound(prompt, completion)
        if charge.reserve(self._reserve_again):
            self._prepare(charge, request)

    def _reserve_again(self) -> None:
        """A lease or the key's accounts have come, or will not."""
        charge = self._charge
        request = self._request
        if self._ended or charge is None or request is None:
            return
        try:
            charge.check_refusal()
            if charge.reserve(self._reserve_again):
                self._prepare(charge, request)
        except ApiError as error:
            self._refuse(error)

    def _prepare(self, charge: Charge, request: AnyRequest) -> None:
        """Write the body for the engine, then go to a replica. Raises ApiError 400."""
        state = charge.route
        route = state.route
        profile = route.profile
        extra = profile.extra
        if state.reuse:
            self._by_slot = True
            extra = {name: value for name, value in extra.items() if name != "cache_prompt"}
        if type(request) is EmbeddingsRequest:
            request.user = None
        else:
            if not admission.is_plain(request):
                more = translate(request, profile)
                if more:
                    extra = {**extra, **more}
                admission.clean(request)
            if self._stream:
                request.stream_options = _INCLUDE_USAGE
            if type(request) is ChatRequest and (request.max_completion_tokens is not None or state.renames_limit):
                limit = request.max_completion_tokens or request.max_tokens
                request.max_completion_tokens = request.max_tokens = None
                setattr(request, profile.max_tokens_field, limit)
        if state.salted:
            extra = {**extra, "cache_salt": charge.key.project}
        if state.renamed:
            request.model = route.upstream_model
        self._http.body = encode(request, extra) if extra else encoder.encode(request)
        self._go(state, None)

    # --- to a replica
    def reroute(self, route: RouteState) -> None:
        """Out of the queue: there is room, or the endpoint's replicas have changed."""
        self._waiting = False
        if self._charge is not None and not self._ended:
            self._charge.route = route
            self._go(route, None)

    def dismissed(self, error: ApiError) -> None:
        """Out of the queue: there was no replica in time, or there will be none."""
        self._waiting = False
        self._refuse(error)

    def _go(self, route: RouteState, avoid: ReplicaState | None) -> None:
        """Send to the best replica, or wait for one."""
        gateway = self._gateway
        now = gateway.now()
        # Whoever waits was there first, and the rows of batches wait for everybody.
        if not len(route.queue) or route.pumping or self._attempts:
            replica = route.pick(self.prefix, self._paid().key.project, now, avoid)
            if replica is not None:
                self._send(replica, now)
                return
        try:
            self._came_at = self._came_at or now
            gateway.waiting_room.enter(self, route, self._paid(), self._ticket is not None, self._came_at)
            self._waiting = True
            self.waits_since = now
        except ApiError as error:
            self._refuse(error)

    def give_up(self, error: ApiError) -> None:
        """Waited too long, or the replica was silent too long."""
        if self._ended:
            return
        replica = self._replica
        if self._upstream is not None and replica is not None and not self._head_sent and self._has_others():
            # Silent so far, so another may be asked: nothing of an answer has left.
            replica.down_until = self._gateway.now() + self._gateway.down_seconds
            self._drop_upstream()
            self._retry("it was silent for too long", replica)
            return
        self._fail(error)

    def _send(self, replica: ReplicaState, now: float) -> None:
        self._attempts += 1
        self._replica = replica
        replica.in_flight += 1
        self._unread = len(self._http.body)
        replica.unread += self._unread
        if self.waits_since:
            self._reply.queue_us += int((now - self.waits_since) * 1e6)
            self.waits_since = 0.0
        connection = replica.pool.get(self._owner(replica))
        if connection is None:
            self._gateway.spawn(self._connect(replica))
        else:
            self._write(connection, replica)

    async def _connect(self, replica: ReplicaState) -> None:
        try:
            connection = await replica.pool.connect(self._owner(replica))
        except OSError as error:
            replica.down_until = self._gateway.now() + self._gateway.down_seconds
            if not self._ended and self._replica is replica:
                self._retry(f"cannot connect: {error or 'time-out'}", replica)
            return
        if self._ended or self._replica is not replica:
            replica.pool.give_back(connection)
        else:
            self._write(connection, replica)

    def _owner(self, replica: ReplicaState) -> str:
        return "" if replica.shared else self._paid().key.project

    def _write(self, connection: UpstreamConnection, replica: ReplicaState) -> None:
        self._upstream = connection
        gateway = self._gateway
        body = self._http.body
        cache = replica.cache
        if self._by_slot and cache is not None:
            if self._paid().route.reuse:
                slot, reuse = cache.take(self._paid().key.project, self.prefix())
                self._slot = slot
                body = b'%b,"id_slot":%d,"cache_prompt":%b}' % (body[:-1], slot, b"true" if reuse else b"false")
            else:
                body = b'%b,"cache_prompt":false}' % body[:-1]
        others = self._stream and self._has_others()
        self._client.deadline = gateway.now() + (gateway.first_byte_seconds if others else gateway.silence_seconds)
        connection.send(self, b"%b%d\r\n\r\n%b" % (replica.heads[self._kind.number], len(body), body))

    def _retry(self, why: str, avoid: ReplicaState | None) -> None:
        self._let_go(False)
        if self._attempts < MAX_ATTEMPTS and self._charge is not None:
            self._gateway.metrics.retries += 1
            self._go(self._charge.route, avoid)
            return
        self._gateway.log.warning("replica_failed", request_id=self._request_id, why=why)
        self._refuse(unavailable("The model's replica failed. Please try again.", code="replica_failed"))

    # --- upstream's side
    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        replica = self._replica
        if replica is not None:
            replica.unread -= self._unread
            self._unread = 0
        if status != 200 or not self._stream:
            return
        kind = b""
        for name, value in headers:
            if name == b"content-type":
                kind = value
        if kind.startswith(b"text/event-stream"):
            route = self._paid().route
            self._events = sse.EventStream(route.route.name if route.renamed else None)
            self._raw = self._http.http11 and self._content is None
        else:
            self._status = 0

    def upstream_chunks(self, data: bytes) -> int:
        """The usual case of a stream: nothing in it is for us, so it goes on as it came."""
        events = self._events
        if events is None or not self._raw or self._ended:
            return 0
        before = events.plain
        taken = events.chunks(data)
        if not taken:
            return 0
        self._reply.egress += events.plain - before
        client = self._client
        if client.writable:
            client.deadline = self._gateway.tick + self._gateway.silence_seconds
        if taken < len(data):
            if not self._head_sent:
                self._note_first()
            self._out.append(data[:taken])
        elif self._head_sent:
            client.transport.write(data)
        else:
            self._note_first()
            self._out.append(data)
            self._send_events()
        return taken

    def upstream_body(self, data: bytes) -> None:
        if self._ended:
            return
        events = self._events
        if events is None:
            self._answer.append(data)
            self._received += len(data)
            if self._received > self._gateway.max_answer:
                self._fail(unavailable("The model's answer is too large", code="answer_too_large"))
            return
        self._came.append(data)

    def upstream_read(self) -> None:
        """One write for what came at once: each is a call of the kernel."""
        events = self._events
        if events is None or self._ended:
            return
        if self._came:
            data = self._came[0] if len(self._came) == 1 else b"".join(self._came)
            self._came = []
            try:
                self._keep_events(events.feed(data))
            except BadStream as error:
                self._keep_events(error.passed)
                self._interrupted(str(error))
                return
            if events.done:
                self._finish_stream()
                return
        if self._out:
            self._send_events()

    def upstream_done(self) -> None:
        self._upstream = None
        if self._ended:
            return
        if self._status != 200:
            replica = self._replica
            if self._status >= 500 and self._attempts < MAX_ATTEMPTS and replica is not None and self._has_others():
                self._answer = []
                self._received = 0
                self._retry(f"status {self._status}", replica)
                return
            self._gateway.log.info("engine_refused", status=self._status, request_id=self._request_id)
            self._refuse(from_engine(self._status, b"".join(self._answer), self._about(), self._kind.task))
        elif self._events is not None:
            if self._events.content or self._events.usage is not None:
                self._finish_stream()
            else:
                self._interrupted("the stream ended early")
        else:
            self._finish_plain()

    def upstream_lost(self, reused: bool, answered: bool, why: str) -> None:
        self._upstream = None
        if self._ended:
            return
        if answered or self._head_sent:
            self._interrupted(why)
            return
        # A kept-alive connection may have been closed meanwhile: the same replica deserves a new one.
        self._retry(why, None if reused else self._replica)

    # --- client's side
    def client_writable(self, writable: bool) -> None:
        if self._upstream is not None:
            if writable:
                self._upstream.transport.resume_reading()
            else:
                self._upstream.transport.pause_reading()

    def client_lost(self) -> None:
        """Nobody listens any more: stop the engine's work, charge what was delivered."""
        if self._ended:
            return
        self._gateway.metrics.cancelled += 1
        self._drop_upstream()
        if self._head_sent:
            self._ended = True
            self._gateway.spawn(self._count_and_record(499))
        else:
            self._end()


def _parsed(number: int, body: bytes) -> AnyRequest:
    """Raises ApiError 400."""
    try:
        if number == CHAT:
            return chat_decoder.decode(body)
        if number == COMPLETION:
            return completion_decoder.decode(body)
        return embeddings_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    # Once more, for the words.
    if number == CHAT:
        return parse(chat_decoder, body)
    return parse(completion_decoder, body) if number == COMPLETION else parse(embeddings_decoder, body)
