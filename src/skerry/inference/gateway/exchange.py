"""One inference request on its way: admitted, sent to a replica, answered, recorded, settled.

The order of the end matters: the record is in the kernel before the last byte of the answer leaves.
"""

import time
from typing import TYPE_CHECKING

import msgspec

from skerry.inference.gateway import admission, sse
from skerry.inference.gateway.charge import Charge
from skerry.inference.gateway.connection import ClientConnection, HttpRequest
from skerry.inference.gateway.errors import ApiError, unavailable
from skerry.inference.gateway.heads import plain_head, shown_usage, stream_head, usage_event
from skerry.inference.gateway.refusals import from_engine
from skerry.inference.gateway.snapshot import ReplicaState, RouteState
from skerry.inference.gateway.upstream import UpstreamConnection
from skerry.inference.gateway.wire import (
    ChatRequest,
    Request,
    StreamOptions,
    chat_decoder,
    completion_decoder,
    encode,
    parse,
)
from skerry.inference.model import Route

if TYPE_CHECKING:
    from skerry.inference.gateway.gateway import Gateway

MAX_ATTEMPTS = 3


class InferenceExchange:
    """A chat or text completion, streamed or not. It is the handler of its upstream connection."""

    __slots__ = (
        "_answer", "_attempts", "_charge", "_chat", "_client", "_egress", "_ended", "_events", "_gateway", "_head_sent",
        "_http", "_replica", "_request", "_request_id", "_status", "_stream", "_upstream", "_wants_usage",
        "admitted_at", "id", "waits_since",
    )  # fmt: skip

    def __init__(self, gateway: "Gateway", client: ClientConnection, http: HttpRequest, chat: bool) -> None:
        self._gateway, self._client, self._http, self._chat = gateway, client, http, chat
        self.id = gateway.new_id()
        self._request_id = self.id.hex().encode()
        self.admitted_at = time.time_ns() // 1000
        """Unix microseconds."""
        self._charge: Charge | None = None
        self._replica: ReplicaState | None = None
        self._upstream: UpstreamConnection | None = None
        self._answer: list[bytes] = []
        self._events: sse.EventStream | None = None
        self._attempts = self._egress = self._status = 0
        self._head_sent = self._ended = self._stream = False
        self.waits_since = 0.0

    # --- admission
    def start(self) -> None:
        gateway = self._gateway
        gateway.in_flight[self] = None
        try:
            self._admit()
        except ApiError as error:
            self._refuse(error)

    def _admit(self) -> None:
        gateway = self._gateway
        now = gateway.now()
        if not gateway.snapshot.is_trusted(now):
            raise unavailable("The gateway has not heard from its database for too long", code="database_unavailable")
        key = gateway.key_of(self._http)
        body = self._http.body
        request: Request = parse(chat_decoder, body) if self._chat else parse(completion_decoder, body)
        route = admission.find_route(gateway.snapshot, key, request.model)
        admission.check_parameters(route, request)
        if not gateway.journal.has_room:
            raise unavailable("No usage can be recorded now, so nothing is served", code="journal_full", retry_after=5)
        prompt, completion = admission.ceiling_tokens(route, request, len(body))
        admission.check_rate(key, now)
        self._stream = bool(request.stream)
        self._wants_usage = request.stream_options is not None and request.stream_options.include_usage
        self._request = request
        charge = self._charge = Charge(gateway, self.id, self.admitted_at, key, route)
        charge.bound(prompt, completion)
        if charge.reserve(self._reserve_again):
            self._prepare(charge)

    def _reserve_again(self) -> None:
        """A lease or the key's accounts have come, or will not."""
        charge = self._charge
        if self._ended or charge is None:
            return
        try:
            charge.check_refusal()
            if charge.reserve(self._reserve_again):
                self._prepare(charge)
        except ApiError as error:
            self._refuse(error)

    def _prepare(self, charge: Charge) -> None:
        """Write the body for the engine, then go to a replica."""
        request, route = self._request, charge.route.route
        admission.clean(request)
        request.model = route.upstream_model
        if self._stream:
            request.stream_options = StreamOptions(include_usage=True)
        if isinstance(request, ChatRequest):
            limit = request.max_completion_tokens or request.max_tokens
            request.max_completion_tokens = request.max_tokens = None
            setattr(request, route.profile.max_tokens_field, limit)
        body = encode(request, route.profile.extra)
        self._http.body = b"%d\r\n\r\n%b" % (len(body), body)
        self._go(charge.route)

    # --- to a replica
    def reroute(self, route: RouteState) -> None:
        """Out of the waiting room: the endpoint's replicas have changed."""
        if self._charge is not None:
            self._charge.route = route
            self._go(route)

    def _go(self, route: RouteState, avoid: ReplicaState | None = None) -> None:
        """Send to the best replica, or wait for one."""
        gateway = self._gateway
        replica = route.pick(gateway.now(), avoid)
        if replica is None and avoid is not None:
            replica = route.pick(gateway.now())
        if replica is not None:
            self._send(replica)
            return
        try:
            gateway.waiting_room.enter(self, route)
        except ApiError as error:
            self._refuse(error)

    def give_up(self, error: ApiError) -> None:
        """Waited too long, or the replica was silent too long."""
        if not self._ended:
            self._fail(error)

    def _send(self, replica: ReplicaState) -> None:
        self._attempts += 1
        self._replica = replica
        replica.in_flight += 1
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
            if not self._ended:
                self._retry(f"cannot connect: {error or 'time-out'}", avoid=replica)
            return
        if self._ended or self._replica is not replica:
            replica.pool.give_back(connection)
        else:
            self._write(connection, replica)

    def _owner(self, replica: ReplicaState) -> str:
        return "" if replica.shared else self._paid.key.project

    def _write(self, connection: UpstreamConnection, replica: ReplicaState) -> None:
        self._upstream = connection
        head = replica.chat_head if self._chat else replica.completion_head
        self._client.deadline = self._gateway.now() + self._gateway.silence_seconds
        connection.send(self, head + self._http.body)

    def _retry(self, why: str, avoid: ReplicaState | None) -> None:
        self._let_go()
        if self._attempts < MAX_ATTEMPTS and self._charge is not None:
            self._gateway.metrics.retries += 1
            self._go(self._charge.route, avoid)
            return
        self._gateway.log.warning("replica_failed", request_id=self._request_id.decode(), why=why)
        self._refuse(unavailable("The model's replica failed. Please try again.", code="replica_failed"))

    # --- upstream's side
    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        if status != 200:
            return
        if self._stream:
            kind = next((value for name, value in headers if name == b"content-type"), b"")
            if kind.startswith(b"text/event-stream"):
                route = self._about
                self._events = sse.EventStream(route.name if route.upstream_model != route.name else None)
            else:
                self._status = 0

    def upstream_body(self, data: bytes) -> None:
        events = self._events
        if events is None:
            self._answer.append(data)
            self._egress += len(data)
            if self._egress > self._gateway.max_answer:
                self._fail(unavailable("The model's answer is too large", code="answer_too_large"))
            return
        try:
            passed = events.feed(data)
        except sse.BadStream as error:
            self._interrupted(str(error))
            return
        if passed and not self._ended:
            self._send_events(passed)
        if events.done and not self._ended:
            self._finish_stream()

    def upstream_done(self) -> None:
        self._upstream = None
        if self._ended:
            return
        if self._status != 200:
            replica = self._replica
            if self._status >= 500 and self._attempts < MAX_ATTEMPTS and replica and self._has_others():
                self._answer, self._egress = [], 0
                self._retry(f"status {self._status}", avoid=replica)
                return
            self._gateway.log.info("engine_refused", status=self._status, request_id=self._request_id.decode())
            self._refuse(from_engine(self._status, b"".join(self._answer), self._about, self._chat))
        elif self._events is not None:
            if self._events.content or self._events.usage:
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
        self._retry(why, avoid=None if reused else self._replica)

    def upstream_writable(self, writable: bool) -> None:
        """Bodies are bounded, so what the replica does not take yet may wait in memory."""

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
        if self._upstream is not None:
            self._upstream.abandon()
            self._upstream = None
        if self._head_sent:
            self._ended = True
            self._gateway.spawn(self._count_and_record(499))
        else:
            self._end()

    # --- the end
    def _finish_plain(self) -> None:
        body = b"".join(self._answer)
        try:
            answer = sse.chunk_decoder.decode(body)
            about = self._about
            if about.upstream_model != about.name:
                body = sse.rename(body, about.name)
            if b'"timings"' in body:
                body = sse.without_fields(body, ("timings",))  # llama.cpp's own business
        except (msgspec.MsgspecError, sse.BadStream):
            self._refuse(unavailable("The model's answer could not be read", code="bad_answer"))
            return
        usage = answer.usage
        if usage is not None:
            usage = self._paid.within(usage)
            if usage is not answer.usage:
                body = sse.with_fields(body, {"usage": shown_usage(usage)})
        self._egress = len(body)
        cost = self._record(usage, len(answer.choices), 200)
        if cost is None:
            return
        key = self._paid.key
        head = plain_head(len(body), self._request_id, cost, key, self._replica, self._connection_header())
        self._client.transport.write(head + body)
        self._close()

    def _send_events(self, data: bytes) -> None:
        self._egress += len(data)
        client = self._client
        if client.writable:
            client.deadline = self._gateway.now() + self._gateway.silence_seconds
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self._http.http11 else data
        if not self._head_sent:
            self._head_sent = True
            self._gateway.metrics.first_token(time.time() - self.admitted_at / 1e6)
            framed = self._stream_head() + framed
        client.transport.write(framed)

    def _finish_stream(self) -> None:
        """All events have come: record, then send the last of them."""
        events = self._events
        assert events is not None
        if events.usage is not None:
            usage = self._paid.within(events.usage)
            if usage is not events.usage:
                events.usage, events.usage_event = usage, None
        tail = b"data: [DONE]\n\n"
        self._egress += len(tail)
        cost = self._record(events.usage, events.content, 200)
        if cost is None:
            return
        if self._wants_usage:
            created = self.admitted_at // 1_000_000
            tail = usage_event(events, self._paid.route, cost, self.id, created, self._chat) + tail
        self._end_stream(tail)

    def _interrupted(self, why: str) -> None:
        """The replica died in the middle: what was delivered is what is charged, and the client is told."""
        self._gateway.log.warning("stream_interrupted", request_id=self._request_id.decode(), why=why)
        self._gateway.metrics.interrupted += 1
        error = unavailable("The model's replica failed in the middle of the answer.", code="replica_failed")
        self._drop_upstream()
        if not self._head_sent:
            self._refuse(error)
            return
        events = self._events
        if self._record(events.usage if events else None, events.content if events else 0, 502) is not None:
            self._end_stream(error.event())

    def _end_stream(self, tail: bytes) -> None:
        framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(tail), tail) if self._http.http11 else tail
        if not self._head_sent:
            self._head_sent = True
            framed = self._stream_head() + framed
        self._client.transport.write(framed)
        self._close()

    def _record(self, usage: sse.Usage | None, content: int, status: int) -> int | None:
        """The cost in atto-units; None where the journal failed, and then the client was told."""
        try:
            return self._paid.record(usage, content, status, self._egress, self._stream, self._replica)
        except OSError as error:
            self._gateway.journal_failed(error)
            self._journal_failed()
            return None

    async def _count_and_record(self, status: int) -> None:
        """After the client has gone: ask the replica how long the prompt was, then record what was delivered."""
        events = self._events
        usage = events.usage if events is not None else None
        content = events.content if events is not None else 0
        if usage is None and self._replica is not None:
            prompt = await self._gateway.count_prompt(self._replica, self._about, self._request)
            if prompt:
                usage = sse.Usage(prompt_tokens=prompt, completion_tokens=content)
        self._record(usage, content, status)
        self._end()

    def _stream_head(self) -> bytes:
        key, http11 = self._paid.key, self._http.http11
        return stream_head(self._request_id, key, self._replica, http11, self._connection_header())

    def _connection_header(self) -> bytes:
        if not self._keeps_alive():
            return b"connection: close\r\n"
        return b"" if self._http.http11 else b"connection: keep-alive\r\n"

    def _keeps_alive(self) -> bool:
        # Without chunks, a stream's end is the connection's end.
        return self._http.keep_alive and (self._http.http11 or not self._stream) and not self._gateway.draining

    def _fail(self, error: ApiError) -> None:
        """End with an error, before or in the middle of the answer."""
        if self._head_sent:
            self._interrupted(error.message)
        else:
            self._drop_upstream()
            self._refuse(error)

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error: nothing is recorded, nothing is charged."""
        if self._ended:
            return
        self._gateway.metrics.refused(error.status, error.code)
        self._client.send_error(error, self._http, self._request_id.decode())
        keep_alive = self._http.keep_alive and not error.close
        self._end()
        self._client.finished(keep_alive)

    def _journal_failed(self) -> None:
        error = unavailable("The usage of this answer could not be recorded", code="journal_failed", retry_after=5)
        self._drop_upstream()
        if self._head_sent:
            self._end()
            self._client.transport.abort()
        else:
            self._refuse(error)

    def _close(self) -> None:
        keep_alive = self._keeps_alive()
        self._end()
        self._client.finished(keep_alive)

    @property
    def _paid(self) -> Charge:
        assert self._charge is not None
        return self._charge

    @property
    def _about(self) -> Route:
        return self._paid.route.route

    def _has_others(self) -> bool:
        return len(self._paid.route.replicas) > 1

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()

    def _let_go(self) -> None:
        replica, self._replica = self._replica, None
        if replica is not None:
            replica.in_flight -= 1

    def _end(self) -> None:
        """Release everything that is still held. Safe to call more than once."""
        self._ended = True
        if self._charge is not None:
            self._charge.release()
        self._let_go()
        self._gateway.waiting_room.leave(self)
        self._gateway.in_flight.pop(self, None)
