"""A bounded load from many clients, and what each of them saw of each answer."""

import asyncio
import random
from dataclasses import dataclass, field
from decimal import Decimal

import httpx
import msgspec

from tests.cloud import MODEL, Cloud
from tests.gateway.upstream import Exchange, usage

SCRIPTED = "scripted"
CLIENTS = 6
LONGEST = 14
"""Tokens of the longest answer of the script."""
REAL_TOKENS = 8
PATIENCE_SECONDS = 25.0
FILLER = " skerry" * 50
"""The body's bytes bound the prompt's tokens, and these are invented below."""


@dataclass(slots=True)
class Ask:
    """One request, and what came of it."""

    number: int
    model: str
    streamed: bool
    tokens: int
    status: int = 0
    """0: no answer came."""
    request_id: str = ""
    pieces: int = 0
    """Pieces of text that arrived."""
    whole: bool = False
    """The client has all of it: the body, or the stream to its [DONE]."""
    told: bool = False
    """The stream ended with an error event: the gateway lived and said so."""
    used: tuple[int, int] | None = None
    """Tokens of prompt and completion, as the client was told."""
    cost: Decimal = Decimal(0)
    why: str = ""

    @property
    def complete(self) -> bool:
        return self.status == 200 and self.whole

    @property
    def cut(self) -> bool:
        """It may have been answered, for all that the client knows."""
        return not self.complete and self.status in (0, 200)


def invented_prompt(number: int) -> tuple[int, int]:
    """Tokens of a request's prompt, not cached and cached, as the script tells them: no two requests have the same."""
    whole, cached = 64 + number // 64, number % 64
    return whole - cached, cached


class PacedScript:
    """The upstream's side: as many tokens as asked, at a pace of the request's own."""

    def __init__(self) -> None:
        self.sent: dict[int, int] = {}
        """Tokens written, by request; of several tries the most."""

    async def __call__(self, exchange: Exchange) -> None:
        number, pace, *_ = exchange.body["messages"][0]["content"].split()
        tokens, serial = exchange.body["max_tokens"], int(number)
        fresh, cached = invented_prompt(serial)
        if exchange.body.get("stream"):
            await exchange.stream_head()
            for count in range(1, tokens + 1):
                await asyncio.sleep(float(pace))
                self.sent[serial] = max(count, self.sent.get(serial, 0))
                await exchange.token()
            await exchange.end(fresh + cached, tokens, cached)
            return
        await asyncio.sleep(float(pace) * tokens)
        self.sent[serial] = tokens
        message = {"role": "assistant", "content": " skua" * tokens}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        used = usage(fresh + cached, tokens, cached)
        await exchange.json({"model": exchange.body["model"], "choices": choices, "usage": used})


@dataclass(slots=True)
class Load:
    """`begin`, then `end`: the clients finish what they have begun."""

    cloud: Cloud
    key: str
    rng: random.Random
    asks: list[Ask] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _ending: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        self._tasks = [asyncio.create_task(self._client(SCRIPTED)) for _ in range(CLIENTS)]
        self._tasks.append(asyncio.create_task(self._client(MODEL)))

    async def end(self) -> None:
        self._ending.set()
        await asyncio.gather(*self._tasks)

    async def once(self, model: str) -> Ask:
        """One request more, on a connection of its own."""
        async with _http() as http:
            return await self._next(http, model)

    async def _client(self, model: str) -> None:
        async with _http() as http:
            while not self._ending.is_set():
                ask = await self._next(http, model)
                if not ask.complete:
                    await asyncio.sleep(0.05)  # as clients do before they try again

    async def _next(self, http: httpx.AsyncClient, model: str) -> Ask:
        tokens = REAL_TOKENS if model == MODEL else self.rng.randint(1, LONGEST)
        ask = Ask(len(self.asks), model, self.rng.random() < 0.6, tokens)
        self.asks.append(ask)
        try:
            await self._ask(http, ask)
        except httpx.HTTPError as error:
            ask.why = repr(error)
        return ask

    async def _ask(self, http: httpx.AsyncClient, ask: Ask) -> None:
        filler = "" if ask.model == MODEL else FILLER
        body = {
            "model": ask.model,
            "messages": [{"role": "user", "content": f"{ask.number} {self.rng.uniform(0.001, 0.03):.4f}{filler}"}],
            "max_tokens": ask.tokens,
        }
        if ask.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        url, headers = f"{self.cloud.url}/v1/chat/completions", self.cloud.bearer(self.key)
        async with http.stream("POST", url, json=body, headers=headers) as answer:
            ask.status, ask.request_id = answer.status_code, answer.headers.get("x-request-id", "")
            if ask.streamed and ask.status == 200:
                async for line in answer.aiter_lines():
                    _hear(ask, line)
                return
            content = msgspec.json.decode(await answer.aread())
            if ask.status == 200:
                ask.used = content["usage"]["prompt_tokens"], content["usage"]["completion_tokens"]
                ask.cost, ask.whole = Decimal(answer.headers["x-skerry-cost"]), True
            else:
                ask.why = content["error"]["message"]


def _http() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=False, timeout=PATIENCE_SECONDS, trust_env=False, limits=httpx.Limits(max_connections=1)
    )


def _hear(ask: Ask, line: str) -> None:
    """One line of a stream."""
    if line == "data: [DONE]":
        ask.whole = ask.used is not None
    elif line.startswith("data: "):
        event = msgspec.json.decode(line[6:])
        if "error" in event:
            ask.told, ask.why = True, event["error"]["message"]
            return
        ask.pieces += sum(bool(choice["delta"].get("content")) for choice in event["choices"])
        if used := event.get("usage"):
            ask.used = used["prompt_tokens"], used["completion_tokens"]
            ask.cost = Decimal(event["skerry"]["cost"])
