"""A gateway that believes tickets and answers what the test wants."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from skerry.inference.gateway.tickets import BatchTicket, Tickets


@dataclass
class Asked:
    """One request as it came."""

    path: str
    ticket: BatchTicket
    body: dict


@dataclass
class Reply:
    status: int = 200
    body: dict | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Hangs(Exception):
    """The connection is cut instead of an answer."""


Answers = Callable[[Asked], Reply | Awaitable[Reply]]


def completion(asked: Asked) -> Reply:
    """What an engine might say: 10 prompt tokens of which 4 were cached, 3 of the answer."""
    text = asked.body["messages"][-1]["content"] if "messages" in asked.body else "?"
    body = {
        "id": asked.ticket.id.hex(),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": f"done: {text}"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
    }
    return Reply(200, body, {"x-skerry-cost": "0.0000004", "x-request-id": asked.ticket.id.hex()})


def refusal(status: int, code: str, **headers: str) -> Reply:
    return Reply(status, {"error": {"message": "no", "type": "x", "param": None, "code": code}}, headers)


class FakeGateway:
    def __init__(self, socket: Path, tickets: Tickets, clock) -> None:
        self.socket, self.tickets, self.clock = socket, tickets, clock
        self.url = f"unix:{socket}"
        self.answers: Answers = completion
        self.asked: list[Asked] = []
        self.answered: list[int] = []
        """Lines that were answered with 200, as often as they were."""
        self.under_way = self.most_under_way = self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)

    async def stop(self) -> None:
        """All connections break."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.socket.unlink(missing_ok=True)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    await self._one(reader, writer)
        except Hangs:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        ticket = self.tickets.verify(headers["authorization"], self.clock.now().timestamp())
        asked = Asked(head[0].split(" ")[1], ticket, json.loads(body))
        self.asked.append(asked)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            reply = self.answers(asked)
            if not isinstance(reply, Reply):
                reply = await _unless_gone(reply, reader)
        finally:
            self.under_way -= 1
        if reply.status == 200:
            self.answered.append(ticket.line)
        content = json.dumps(reply.body).encode()
        lines = [f"HTTP/1.1 {reply.status} Whatever", f"content-length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        await writer.drain()


async def _unless_gone(reply: Awaitable[Reply], reader: asyncio.StreamReader) -> Reply:
    """The reply, but for a client that goes away first: nobody is answered then."""
    working, watching = asyncio.ensure_future(reply), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ConnectionResetError
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
