"""The money of one request: its ceiling reserved, its record written, its cost settled."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from skerry.inference.gateway import sse
from skerry.inference.gateway.balances import Denied, Reservation
from skerry.inference.gateway.errors import unavailable
from skerry.inference.gateway.refusals import exhausted
from skerry.inference.gateway.snapshot import KeyState, ReplicaState, RouteState
from skerry.kernel.errors import Unavailable
from skerry.kernel.money import atto_to_nano_ceil
from skerry.runtime.journal.records import AnswerRecord, Counted

if TYPE_CHECKING:
    from skerry.inference.gateway.gateway import Gateway

HIDDEN_TOKENS = 1024
"""What a server may add to a prompt on its own (a system prompt, its tools' preamble) and be believed."""


class Charge:
    """Reserve → record and settle, or release. `admitted` is Unix microseconds."""

    __slots__ = ("_bounds", "_ceiling", "_gateway", "_reservation", "admitted", "id", "key", "route")

    def __init__(self, gateway: "Gateway", id: bytes, admitted: int, key: KeyState, route: RouteState) -> None:
        self._gateway, self.id, self.admitted, self.key, self.route = gateway, id, admitted, key, route
        self._ceiling = 0
        self._bounds = (0, 0)
        self._reservation: Reservation | None = None

    def bound(self, prompt: int, completion: int) -> None:
        """At most so many tokens will be used."""
        self._bounds = (prompt + HIDDEN_TOKENS, completion)
        self._ceiling = atto_to_nano_ceil(self.route.prices.at(self.admitted).ceiling(prompt, completion))

    def reserve(self, retry: Callable[[], None]) -> bool:
        """Take the ceiling from the balances. False: not yet, `retry` will be called. Raises ApiError 402 and 503."""
        gateway, key = self._gateway, self.key
        try:
            if not key.ready:
                if key.trouble is not None:
                    trouble, key.trouble = key.trouble, None
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

    def within(self, usage: sse.Usage) -> sse.Usage:
        """The usage, cut to what the request can have used: an engine that claims more would spend beyond a lease."""
        prompt, completion = self._bounds
        if usage.prompt_tokens <= prompt and usage.completion_tokens <= completion:
            return usage
        about = self.route.route
        self._gateway.log.warning(
            "usage_out_of_bounds", model=about.name, prompt=usage.prompt_tokens, completion=usage.completion_tokens,
            most_prompt=prompt, most_completion=completion,
        )  # fmt: skip
        details = sse.TokenDetails(min(usage.cached, prompt))
        return sse.Usage(min(usage.prompt_tokens, prompt), min(usage.completion_tokens, completion), details)

    def record(
        self,
        usage: sse.Usage | None,
        content: int,
        status: int,
        egress: int,
        stream: bool,
        replica: ReplicaState | None,
    ) -> int:
        """Write the record, then settle; the cost in atto-units. Raises OSError where the journal fails.

        Without `usage`, the `content` events seen stand for the tokens of the answer.
        """
        counted: Counted = "engine" if usage is not None else "gateway"
        if usage is None:
            usage = sse.Usage(completion_tokens=min(content, self._bounds[1]))
        key, route = self.key, self.route
        now = time.time_ns() // 1000
        cached, completion = usage.cached, usage.completion_tokens
        prompt = usage.prompt_tokens - cached
        cost = route.prices.at(now).cost(prompt, cached, completion, egress)
        nano = atto_to_nano_ceil(cost)
        about, reservation = route.route, self._reservation or []
        record = AnswerRecord(
            self.id, key.project, key.id, about.model_name, about.endpoint, replica.replica.id if replica else "",
            about.site, about.capacity_class, about.charge_by, prompt, cached, completion, egress,
            self.admitted, now, counted, status, tuple([lease.id for _, lease in reservation]), nano,
        )  # fmt: skip
        self._gateway.journal.append(record)
        if self._reservation is not None:
            self._gateway.balances.settle(self._reservation, self._ceiling, nano)
            self._reservation = None
        key.tokens.take(usage.prompt_tokens + completion)
        self._gateway.metrics.answered(stream, prompt, cached, completion, self.admitted, now)
        return cost

    def release(self) -> None:
        """Nothing was delivered, or it was settled. Safe to call more than once."""
        if self._reservation is not None:
            self._gateway.balances.release(self._reservation, self._ceiling)
            self._reservation = None
