"""A conversation with a model: what was said, and one answer after another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry.cli.figures import plain
from skerry.client import ChatDelta, ChatSummary, Skerry
from skerry.client.chat import Message


@dataclass
class Conversation:
    """Keeps the messages. A question without any answer is forgotten, so that it can be asked again."""

    client: Skerry
    model: str
    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    def ask(self, question: str, show: Callable[[str], None]) -> ChatSummary | None:
        """Streams the answer to `show`. None: stopped by Ctrl-C; what had come until then is kept.

        Raises SkerryError.
        """
        # A terminal can send bytes that are no text; they would not survive as JSON.
        content = question.encode(errors="replace").decode()
        asked = [*self.messages, {"role": "user", "content": content}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        pieces: list[str] = []
        summary = None
        try:
            with self.client.chat(self.model, [*system, *asked], **self.options) as stream:
                for part in stream:
                    if isinstance(part, ChatDelta):
                        pieces.append(part.text)
                        show(part.text)
                    else:
                        summary = part
        except KeyboardInterrupt:
            summary = None
        finally:
            if pieces:
                self.messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]
        return summary

    def reset(self) -> None:
        self.messages = []


def figures_of(summary: ChatSummary) -> str:
    """One line: tokens, time to first token, speed, cost, and why it ended if not by itself."""
    usage = summary.usage
    cached = f" ({usage.cached:,} cached)" if usage.cached else ""
    parts = [f"{usage.prompt:,} prompt{cached} + {usage.completion:,} completion tokens"]
    if summary.time_to_first_token is not None:
        parts.append(f"first token {summary.time_to_first_token:.2f} s")
    if summary.tokens_per_second is not None:
        parts.append(f"{summary.tokens_per_second:.1f} tokens/s")
    if summary.cost is not None:
        parts.append(f"cost {plain(summary.cost)} {summary.currency}".rstrip())
    if summary.finish_reason == "length":
        parts.append("cut at the token limit")
    return " · ".join(parts)


def as_json(summary: ChatSummary) -> dict[str, Any]:
    """One answer for machines; the money as a decimal string, times in seconds."""
    usage = summary.usage
    return {
        "model": summary.model,
        "content": summary.text,
        "finish_reason": summary.finish_reason,
        "usage": {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.prompt + usage.completion,
            "prompt_tokens_details": {"cached_tokens": usage.cached},
        },
        "skerry": {
            "cost": None if summary.cost is None else plain(summary.cost),
            "currency": summary.currency or None,
            "energy_mwh": summary.energy_mwh,
        },
        "request_id": summary.request_id,
        "replica": summary.replica,
        "time_to_first_token": summary.time_to_first_token,
        "tokens_per_second": summary.tokens_per_second,
        "seconds": summary.seconds,
    }
