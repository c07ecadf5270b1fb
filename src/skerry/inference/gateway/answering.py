"""How an inference request ends: its answer sent, recorded, settled; or refused; and everything let go.

The order of the end matters: the record is in the kernel before the last byte of the answer leaves.
"""

import time
from typing import TYPE_CHECKING

import msgspec

from skerry.inference.gateway import admission, sse
from skerry.inference.gateway.charge import Answer, Charge
from skerry.inference.gateway.connection import ClientConnection
from skerry.inference.gateway.content import Content
from skerry.inference.gateway.errors import ApiError, unavailable
from skerry.inference.gateway.heads import plain_head, shown_usage, stream_head, usage_event
from skerry.inference.gateway.kinds import CHAT, Kind
from skerry.inference.gateway.prompts import beginning
from skerry.inference.gateway.request import HttpRequest
from skerry.inference.gateway.shapes import BadStream, Usage, chunk_decoder
from skerry.inference.gateway.state import KeyState, ReplicaState, Waiter
from skerry.inference.gateway.tickets import BatchTicket
from skerry.inference.gateway.upstream import UpstreamConnection
from skerry.inference.gateway.wire import AnyRequest
from skerry.inference.model import Route

if TYPE_CHECKING:
    from skerry.inference.gateway.gateway import Gateway


class Answering(Waiter):
    """What an exchange holds, and how it ends. How it comes that far is `exchange`'s."""

    def __init__(self, gateway: "Gateway", client: ClientConnection, http: HttpRequest, kind: Kind) -> None:
        self._gateway: Gateway = gateway
        self._client: ClientConnection = client
        self._http: HttpRequest = http
        self._kind: Kind = kind
        self.admitted_at = time.time_ns() // 1000
        """Unix microseconds."""
        self.id: bytes = gateway.new_id_at(self.admitted_at)
        self._request_id: str = self.id.hex()
        self._key: KeyState | None = None
        """Once it counts against the key's limits."""
        self._ticket: BatchTicket | None = None
        self._request: AnyRequest | None = None
        self._charge: Charge | None = None
        self._replica: ReplicaState | None = None
        self._slot = -1
        self._by_slot = False
        self._upstream: UpstreamConnection | None = None
        self._waiting = False
        self._beginning: bytes | None = None
        self._answer: list[bytes] = []
        self._reply: Answer = Answer(kind.name, False)
        self._events: sse.EventStream | None = None
        self._content: Content | None = None
        self._attempts = 0
        self._received = 0
        self._unread = 0
        """Bytes of the request that count as work not begun, until the first of the answer comes."""
        self._status = 0
        self._head_sent = False
        self._raw = False
        """Whether whole chunks of the replica's may go to the client as they are."""
        self._ended = False
        self._stream = False
        self._wants_usage = False
        self.waits_since = 0.0
        self._out: list[bytes] = []
        """For the client, as soon as all that came with it has been read."""
        self._came: list[bytes] = []
        """Of the stream, what came at once and is not looked at yet."""
        self._came_at = 0.0
        """When it began to wait for the first time: its deadline stays when it has to wait again."""

    def prefix(self) -> bytes:
        """By which requests that begin alike are told: of one project only."""
        known = self._beginning
        if known is None:
            request = self._request
            assert request is not None
            known = self._beginning = beginning(self._paid().key.project, request)
        return known

    # --- the end
    def _finish_plain(self) -> None:
        parts = self._answer
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        paid = self._paid()
        try:
            answer = chunk_decoder.decode(body)
            if paid.route.renamed:
                body = sse.rename(body, paid.route.route.name)
            if body.find(b'"timings"') >= 0:
                body = sse.without_fields(body, ("timings",))  # llama.cpp's own business
        except (msgspec.MsgspecError, BadStream):
            self._refuse(unavailable("The model's answer could not be read", code="bad_answer"))
            return
        usage: Usage | None = answer.usage
        if usage is not None:
            usage = paid.within(usage)
            if usage is not answer.usage:
                body = sse.with_fields(body, {"usage": shown_usage(usage)})
        reply = self._reply
        reply.egress = len(body)
        reply.content = len(answer.choices)
        if self._content is not None:
            self._content.take(body)
        cost = self._record(usage, 200)
        if cost < 0:
            return
        head = plain_head(len(body), self._request_id, cost, paid.key, self._replica, self._more_headers())
        self._client.transport.write(head + body)
        self._close()

    def _keep_events(self, data: bytes) -> None:
        """Events for the client, to be sent with the rest of what came."""
        if not data:
            return
        self._reply.egress += len(data)
        if not self._head_sent:
            self._note_first()
        client = self._client
        if client.writable:
            client.deadline = self._gateway.now() + self._gateway.silence_seconds
        if self._content is not None:
            self._content.take(data)
        self._out.append(b"%x\r\n%b\r\n" % (len(data), data) if self._http.http11 else data)

    def _note_first(self) -> None:
        reply = self._reply
        if not reply.first_us:
            reply.first_us = max(1, time.time_ns() // 1000 - self.admitted_at)
            self._gateway.metrics.first_token(reply.first_us / 1e6)

    def _send_events(self) -> None:
        self._client.transport.write(self._taken_out())

    def _taken_out(self) -> bytes:
        """What is to be sent now: the stream's head first."""
        out = self._out
        self._out = []
        if not self._head_sent:
            self._head_sent = True
            out.insert(0, self._stream_head())
        return out[0] if len(out) == 1 else b"".join(out)

    def _finish_stream(self) -> None:
        """All events have come: record, then send the last of them."""
        events = self._events
        assert events is not None
        if events.usage is not None:
            usage = self._paid().within(events.usage)
            if usage is not events.usage:
                events.usage = usage
                events.usage_event = None
        tail = b"data: [DONE]\n\n"
        self._reply.egress += len(tail)
        self._reply.content = events.content
        cost = self._record(events.usage, 200)
        if cost < 0:
            return
        if self._wants_usage:
            created = self.admitted_at // 1_000_000
            tail = usage_event(events, self._paid().route, cost, self.id, created, self._kind.number == CHAT) + tail
        self._end_stream(tail)

    def _interrupted(self, why: str) -> None:
        """The replica died in the middle: what was delivered is what is charged, and the client is told."""
        self._gateway.log.warning("stream_interrupted", request_id=self._request_id, why=why)
        self._gateway.metrics.interrupted += 1
        error = unavailable("The model's replica failed in the middle of the answer.", code="replica_failed")
        self._drop_upstream()
        if not self._head_sent and not self._out:
            self._refuse(error)
            return
        events = self._events
        self._reply.content = events.content if events is not None else 0
        if self._record(events.usage if events is not None else None, 502) >= 0:
            self._end_stream(error.event())

    def _end_stream(self, tail: bytes) -> None:
        framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(tail), tail) if self._http.http11 else tail
        before = self._taken_out() if self._out or not self._head_sent else b""
        self._client.transport.write(before + framed)
        self._close()

    def _record(self, usage: Usage | None, status: int) -> int:
        """The cost in atto-units; -1 where the journal failed, and then the client was told."""
        reply = self._reply
        reply.status = status
        gateway = self._gateway
        try:
            cost = self._paid().record(usage, reply, self._replica)
        except OSError as error:
            gateway.journal_failed(error)
            self._journal_failed()
            return -1
        if self._content is not None:
            try:
                gateway.keep_content(self._content, self._paid())
            except OSError as error:
                gateway.log.warning("content_unrecorded", request_id=self._request_id, error=str(error))
        return cost

    async def _count_and_record(self, status: int) -> None:
        """After the client has gone: ask the replica how long the prompt was, then record what was delivered."""
        events = self._events
        usage = events.usage if events is not None else None
        content = self._reply.content = events.content if events is not None else 0
        request = self._request
        if usage is None and self._replica is not None and request is not None:
            prompt = await self._gateway.count_prompt(self._replica, self._about(), request)
            if prompt:
                usage = self._paid().within(Usage(prompt_tokens=prompt, completion_tokens=content))
        self._record(usage, status)
        self._end()

    def _stream_head(self) -> bytes:
        return stream_head(self._request_id, self._paid().key, self._replica, self._http.http11, self._more_headers())

    def _more_headers(self) -> str:
        paid = self._paid()
        more = self._gateway.throttle_header(paid.route, paid.key)
        if self._reply.queue_us:
            more += f"x-skerry-queue-ms: {self._reply.queue_us // 1000}\r\n"
        if not self._keeps_alive():
            return more + "connection: close\r\n"
        return more if self._http.http11 else more + "connection: keep-alive\r\n"

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
        self._client.send_error(error, self._http, self._request_id)
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

    def _paid(self) -> Charge:
        charge = self._charge
        assert charge is not None
        return charge

    def _about(self) -> Route:
        return self._paid().route.route

    def _has_others(self) -> bool:
        return len(self._paid().route.servers) > 1

    def _drop_upstream(self) -> None:
        upstream = self._upstream
        self._upstream = None
        if upstream is not None:
            upstream.abandon()

    def _let_go(self, answered: bool) -> None:
        """The replica is free of this request; `answered`: its slot holds this prompt now."""
        replica = self._replica
        self._replica = None
        if replica is None:
            return
        replica.in_flight -= 1
        replica.unread -= self._unread
        self._unread = 0
        if self._slot >= 0 and replica.cache is not None:
            replica.cache.give_back(self._slot, self._paid().key.project, self.prefix(), answered=answered)
            self._slot = -1
        route = self._paid().route
        if len(route.queue):
            route.pump(self._gateway.now())

    def _end(self) -> None:
        """Release everything that is still held. Safe to call more than once."""
        self._ended = True
        self._gateway.in_flight.pop(self, None)
        if self._key is not None:
            admission.release_rate(self._key)
            self._key = None
        if self._waiting and self._charge is not None:
            self._waiting = False
            self._charge.route.queue.remove(self)
        if self._charge is not None:
            self._charge.release()
            self._let_go(self._status == 200)
