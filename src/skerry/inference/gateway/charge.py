"""The money of one request: its ceiling reserved, its record written, its cost settled."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from skerry.inference.gateway.admission import take_tokens
from skerry.inference.gateway.balances import Account, Lease
from skerry.inference.gateway.errors import Denied, unavailable
from skerry.inference.gateway.fairness import Tier
from skerry.inference.gateway.pricing import PriceSchedule
from skerry.inference.gateway.refusals import exhausted
from skerry.inference.gateway.shapes import TokenDetails, Usage
from skerry.inference.gateway.state import KeyState, ReplicaState, RouteState
from skerry.kernel.errors import Unavailable
from skerry.kernel.money import atto_to_nano_ceil
from skerry.runtime.journal.records import AnswerRecord

if TYPE_CHECKING:
    from skerry.inference.gateway.gateway import Gateway

HIDDEN_TOKENS: Final = 1024
"""What a server may add to a prompt on its own (a system prompt, its tools' preamble) and be believed."""

BYTES_A_TOKEN: Final = 4
LIKELY_ANSWER: Final = 256
"""Tokens: what an answer may be at most says little of those who set no limit."""


class Answer:
    """What came of a request, for its record. Times in microseconds."""

    def __init__(self, kind: str, stream: bool) -> None:
        self.kind = kind
        self.stream = stream
        self.status = 200
        self.content = 0
        """Events with text: the tokens, where the engine did not tell."""
        self.egress = 0
        self.queue_us = 0
        self.first_us = 0
        self.batch = ""
        self.trace = ""


class Charge:
    """Reserve → record and settle, or release. `admitted` is Unix microseconds."""

    def __init__(
        self, gateway: "Gateway", id: bytes, admitted: int, key: KeyState, route: RouteState, batch: bool
    ) -> None:
        self._gateway: Gateway = gateway
        self.id = id
        self.admitted = admitted
        self.key: KeyState = key
        self.route: RouteState = route
        self._batch = batch
        self._ceiling = 0
        self._most_prompt = 0
        self._most_completion = 0
        self._tier: Tier = Tier.PAYING
        self._expected = 0.0
        """Tokens it was queued with; 0: it did not wait."""
        self._reservation: list[tuple[Account, Lease]] | None = None

    def bound(self, prompt: int, completion: int) -> None:
        """At most so many tokens will be used."""
        self._most_prompt = prompt + HIDDEN_TOKENS
        self._most_completion = completion
        self._ceiling = atto_to_nano_ceil(self._prices().at(self.admitted).ceiling(prompt, completion))

    def waits_as(self, tier: Tier) -> float:
        """It waits in a fair queue: the work it probably is, in tokens. Set right when it has ended."""
        self._tier = tier
        self._expected = float(self._most_prompt // BYTES_A_TOKEN + min(self._most_completion, LIKELY_ANSWER))
        return self._expected

    def reserve(self, retry: Callable[[], None]) -> bool:
        """Take the ceiling from the balances. False: not yet, `retry` will be called. Raises ApiError 402 and 503."""
        gateway = self._gateway
        key = self.key
        try:
            if not key.ready:
                if key.trouble is not None:
                    trouble = key.trouble
                    key.trouble = None
                    raise trouble
                gateway.accounts_wanted(key, retry)
                return False
            self._reservation = gateway.balances.reserve(key.accounts, self._ceiling, retry)
        except Denied as denied:
            raise exhausted(denied, self._ceiling, self.route.prices.currency) from None
        except Unavailable as away:
            raise unavailable(away.detail, code=away.code, retry_after=away.retry_after or 1) from None
        return self._reservation is not None

    def check_refusal(self) -> None:
        """Before trying again: what did the last fetch of a lease end with? Raises ApiError 402 and 503."""
        try:
            self._gateway.balances.raise_refusal(self.key.accounts, self._ceiling)
        except Denied as denied:
            raise exhausted(denied, self._ceiling, self.route.prices.currency) from None
        except Unavailable as away:
            raise unavailable(away.detail, code=away.code, retry_after=away.retry_after or 1) from None

    def within(self, usage: Usage) -> Usage:
        """The usage, cut to what the request can have used: an engine that claims more would spend beyond a lease."""
        prompt = self._most_prompt
        completion = self._most_completion
        said_prompt: int = usage.prompt_tokens
        said_completion: int = usage.completion_tokens
        if said_prompt <= prompt and said_completion <= completion:
            return usage
        about = self.route.route
        self._gateway.log.warning(
            "usage_out_of_bounds", model=about.name, prompt=said_prompt, completion=said_completion,
            most_prompt=prompt, most_completion=completion,
        )  # fmt: skip
        details = TokenDetails(min(usage.cached, prompt))
        return Usage(min(said_prompt, prompt), min(said_completion, completion), details)

    def record(self, usage: Usage | None, answer: Answer, replica: ReplicaState | None) -> int:
        """Write the record, then settle; the cost in atto-units. Raises OSError where the journal fails.

        Without `usage`, the events with text stand for the tokens of the answer.
        """
        prompt = cached = completion = 0
        if usage is not None:
            completion = usage.completion_tokens
            if usage.prompt_tokens_details is not None:
                cached = usage.cached
            prompt = usage.prompt_tokens - cached
        else:
            completion = min(answer.content, self._most_completion)
        key = self.key
        route = self.route
        now = time.time_ns() // 1000
        cost = self._prices().at(now).cost(prompt, cached, completion, answer.egress)
        nano = atto_to_nano_ceil(cost)
        about = route.route
        reservation = self._reservation
        leases = tuple([pair[1].id for pair in reservation]) if reservation is not None else ()
        self._gateway.journal.append(
            AnswerRecord(
                self.id,
                key.project,
                key.id,
                about.model_name,
                about.endpoint,
                replica.id if replica is not None else "",
                about.site,
                about.capacity_class,
                about.charge_by,
                prompt,
                cached,
                completion,
                answer.egress,
                self.admitted,
                now,
                "engine" if usage is not None else "gateway",
                answer.status,
                leases,
                nano,
                answer.batch,
                {},
                answer.stream,
                answer.queue_us,
                answer.first_us,
                answer.kind,
                answer.trace,
            )
        )
        if reservation is not None:
            self._gateway.balances.settle(reservation, self._ceiling, nano)
            self._reservation = None
        take_tokens(key, prompt + cached + completion)
        if self._expected:
            route.queue.correct(key.project, self._tier, prompt + cached + completion - self._expected)
        self._gateway.metrics.answered(answer.stream, prompt, cached, completion, self.admitted, now)
        route.metrics.answered(
            answer.stream, prompt, cached, completion, answer.queue_us, answer.first_us, now - self.admitted
        )
        return cost

    def release(self) -> None:
        """Nothing was delivered, or it was settled. Safe to call more than once."""
        if self._reservation is not None:
            self._gateway.balances.release(self._reservation, self._ceiling)
            self._reservation = None

    def _prices(self) -> PriceSchedule:
        return self.route.batch_prices if self._batch else self.route.prices
