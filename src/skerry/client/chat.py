"""A chat: what is asked, and how the pieces of the answer become deltas and a summary. Does no I/O."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from skerry.client.answers.inference import TokenUsage
from skerry.client.call import present
from skerry.client.errors import BadAnswer, StreamBroken
from skerry.client.sse import EventDecoder
from skerry.client.wire import error_in_stream

CHAT = "/v1/chat/completions"
DONE = b"[DONE]"

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of the answer. `raw` is the chunk as it came, with tool calls and what else an engine sends."""

    text: str
    raw: Mapping[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatSummary:
    """What is known at the end of an answer. Times in seconds, measured by the client.

    Of an answer that was not streamed nobody knows when its first token came.
    """

    model: str
    text: str
    finish_reason: str | None
    usage: TokenUsage
    cost: Decimal | None
    """None where the server says nothing of it."""
    currency: str
    energy_mwh: int
    request_id: str | None
    replica: str | None
    time_to_first_token: float | None
    seconds: float

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token; None where there is nothing to measure."""
        if self.time_to_first_token is None or self.usage.completion < 2:
            return None
        writing = self.seconds - self.time_to_first_token
        return (self.usage.completion - 1) / writing if writing > 0 else None


def chat_body(
    model: str, messages: Sequence[Message], options: Mapping[str, Any], *, stream: bool = True
) -> dict[str, Any]:
    """The request's body; options that are None are left out, so that the model's own defaults hold."""
    asked = {"model": model, "messages": [dict(message) for message in messages], **options}
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return present({**asked, **streamed})


def whole_answer(headers: Mapping[str, str], content: bytes, seconds: float) -> ChatSummary:
    """What is known of an answer that came in one piece. Raises BadAnswer."""
    answer = _chunk(content)
    choices: Sequence[Mapping[str, Any]] = answer.get("choices") or ({},)
    cost, currency = _cost({"cost": headers.get("x-skerry-cost")})
    energy = headers.get("x-skerry-energy-mwh") or ""
    return ChatSummary(
        model=str(answer.get("model") or ""),
        text=(choices[0].get("message") or {}).get("content") or "",
        finish_reason=choices[0].get("finish_reason"),
        usage=TokenUsage.of(answer.get("usage") or {}),
        cost=cost,
        currency=currency,
        energy_mwh=int(energy) if energy.isdigit() else 0,
        request_id=headers.get("x-request-id"),
        replica=headers.get("x-skerry-replica"),
        time_to_first_token=None,
        seconds=seconds,
    )


class Assembler:
    """Takes the bytes of one stream and the time at which they came."""

    def __init__(self, model: str, headers: Mapping[str, str], started: float) -> None:
        self._events = EventDecoder()
        self._headers = headers
        self._started = started
        self._model = model
        self._text: list[str] = []
        self._usage: Mapping[str, Any] = {}
        self._skerry: Mapping[str, Any] = {}
        self._finish_reason: str | None = None
        self._first: float | None = None
        self._done = False

    def feed(self, piece: bytes, now: float) -> Iterator[ChatDelta]:
        """Raises ApiError for an error sent inside the stream, and BadAnswer for what is no chunk."""
        for data in self._events.feed(piece):
            if data == DONE:
                self._done = True
                continue
            delta = self._take(_chunk(data))
            if delta is None:
                continue
            if self._first is None:
                self._first = now - self._started
            yield delta

    def summary(self, now: float) -> ChatSummary:
        """Raises StreamBroken where the stream ended without saying so."""
        if not self._done:
            raise StreamBroken(
                "The answer was cut off.", suggestion="Ask again; `skerry status` shows whether all is well."
            )
        cost, currency = _cost(self._skerry)
        return ChatSummary(
            model=self._model,
            text="".join(self._text),
            finish_reason=self._finish_reason,
            usage=TokenUsage.of(self._usage),
            cost=cost,
            currency=currency,
            energy_mwh=int(self._skerry.get("energy_mwh") or 0),
            request_id=self._headers.get("x-request-id"),
            replica=self._headers.get("x-skerry-replica"),
            time_to_first_token=self._first,
            seconds=now - self._started,
        )

    def _take(self, chunk: Mapping[str, Any]) -> ChatDelta | None:
        if isinstance(chunk.get("error"), dict):
            raise error_in_stream(chunk["error"], self._headers)
        self._model = chunk.get("model") or self._model
        self._usage = chunk.get("usage") or self._usage
        self._skerry = chunk.get("skerry") or self._skerry
        choices = chunk.get("choices") or ()
        if not choices:
            return None
        self._finish_reason = choices[0].get("finish_reason") or self._finish_reason
        delta = choices[0].get("delta") or {}
        text = delta.get("content") or ""
        if not text and not delta.get("tool_calls"):
            return None
        self._text.append(text)
        return ChatDelta(text, chunk)


def _chunk(data: bytes) -> Mapping[str, Any]:
    try:
        chunk = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise BadAnswer(f"The answer carries something that is not JSON: {error}") from error
    if not isinstance(chunk, dict):
        raise BadAnswer("The answer carries something that is not an object.")
    return chunk


def _cost(skerry: Mapping[str, Any]) -> tuple[Decimal | None, str]:
    try:
        return Decimal(str(skerry["cost"])), str(skerry.get("currency") or "")
    except (KeyError, InvalidOperation):
        return None, ""
