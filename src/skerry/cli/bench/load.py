"""The load itself: so many requests at once, each followed by the next, and what came of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Final

from skerry.cli.bench.plan import Plan
from skerry.client import (
    ApiError,
    AsyncSkerry,
    ChatSummary,
    Forbidden,
    Malformed,
    NotFound,
    NotReachable,
    PaymentRequired,
    SkerryError,
    StreamBroken,
    Unauthorized,
    Unavailable,
)
from skerry.client.chat import Message

HOPELESS: Final = (Unauthorized, Forbidden, NotFound, Malformed, PaymentRequired)
"""What the next request would be answered too."""
LONGEST_PAUSE: Final = 1.0
SHORTEST_PAUSE: Final = 0.1


@dataclass
class Tally:
    """What was seen until now. Times in seconds."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost: Decimal = Decimal(0)
    untold: int = 0
    """Answers that did not say what they cost."""
    errors: Counter[str] = field(default_factory=Counter)
    begun: int = 0
    in_flight: int = 0
    seconds: float = 0.0
    stopped: SkerryError | None = None
    """Why it ended early."""
    ceiling_reached: bool = False
    interrupted: bool = False

    @property
    def answered(self) -> int:
        return len(self.total)

    @property
    def failed(self) -> int:
        return self.errors.total()

    def add(self, summary: ChatSummary) -> None:
        usage = summary.usage
        self.total.append(summary.seconds)
        if summary.time_to_first_token is not None:
            self.first.append(summary.time_to_first_token)
            if usage.completion > 1:
                self.between.append((summary.seconds - summary.time_to_first_token) / (usage.completion - 1))
        self.prompt += usage.prompt
        self.cached += usage.cached
        self.completion += usage.completion
        self.cost += summary.cost or Decimal(0)
        self.untold += summary.cost is None


class Load:
    """One load test. `run` may be cancelled: what was seen until then is in the tally."""

    def __init__(self, connect: Callable[[], AsyncSkerry], plan: Plan) -> None:
        """Each of those at work has a client of its own: a pool shared by many costs more CPU than their requests."""
        self.connect = connect
        self.plan = plan
        self.tally = Tally()
        self._numbers = count()
        self._ends = float("inf")

    async def run(self) -> Tally:
        started = time.perf_counter()
        if self.plan.seconds is not None:
            self._ends = started + self.plan.seconds
        workers = [asyncio.create_task(self._work()) for _ in range(self.plan.concurrency)]
        try:
            await asyncio.gather(*workers)
        except asyncio.CancelledError:
            self.tally.interrupted = True
            self.tally.untold += self.tally.in_flight
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        self.tally.seconds = time.perf_counter() - started
        return self.tally

    async def _work(self) -> None:
        async with self.connect() as client:
            while self._may_begin():
                await self._next(client)

    async def _next(self, client: AsyncSkerry) -> None:
        number = next(self._numbers)
        self.tally.begun += 1
        self.tally.in_flight += 1
        pause = 0.0
        try:
            self.tally.add(await self._one(client, number))
        except SkerryError as error:
            pause = self._note(error)
        finally:
            self.tally.in_flight -= 1
        if pause:
            await asyncio.sleep(pause)

    def _may_begin(self) -> bool:
        tally, plan = self.tally, self.plan
        if tally.stopped is not None or time.perf_counter() >= self._ends:
            return False
        if plan.requests is not None and tally.begun >= plan.requests:
            return False
        # What is under way, and what did not say what it cost, counts as dear as it can be.
        unknown = plan.each * (tally.in_flight + tally.untold + 1)
        if plan.ceiling is not None and tally.cost + unknown > plan.ceiling:
            tally.ceiling_reached = True
            return False
        return True

    async def _one(self, client: AsyncSkerry, number: int) -> ChatSummary:
        plan = self.plan
        messages: list[Message] = [{"role": "user", "content": plan.prompt(number)}]
        if not plan.stream:
            return await client.ask(plan.model, messages, max_tokens=plan.max_tokens)
        async with await client.chat(plan.model, messages, max_tokens=plan.max_tokens) as stream:
            return await stream.result()

    def _note(self, error: SkerryError) -> float:
        """Counts it; how long to wait before the next, so that refusals are not the load."""
        self.tally.errors[code_of(error)] += 1
        self.tally.untold += _may_have_cost(error)
        nobody = isinstance(error, NotReachable) and not self.tally.answered
        if nobody or isinstance(error, HOPELESS):
            self.tally.stopped = error
        asked = error.retry_after if isinstance(error, ApiError) else None
        return min(max(asked or 0.0, SHORTEST_PAUSE), LONGEST_PAUSE)


def _may_have_cost(error: SkerryError) -> bool:
    """Whether something may have been delivered, and charged, before it."""
    if isinstance(error, ApiError):
        return error.status >= 500 and not isinstance(error, Unavailable)
    return not isinstance(error, NotReachable) or error.sent


def code_of(error: SkerryError) -> str:
    match error:
        case ApiError():
            return f"{error.status} {error.code}".strip()
        case NotReachable():
            return "not_reachable"
        case StreamBroken():
            return "stream_broken"
    return "bad_answer"
