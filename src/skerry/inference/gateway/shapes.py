"""Shapes of engines' answers, as far as they are read. Apart from what is compiled: msgspec makes these classes."""

from typing import Annotated, Any, Final

import msgspec

Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
"""What an engine may say. Less than nothing would be money for the client; more cannot be booked."""


class TokenDetails(msgspec.Struct):
    cached_tokens: Tokens | None = None


class Usage(msgspec.Struct):
    """`prompt_tokens` includes the cached ones, as OpenAI counts."""

    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0
    prompt_tokens_details: TokenDetails | None = None

    @property
    def cached(self) -> int:
        details = self.prompt_tokens_details
        return min((details.cached_tokens or 0) if details else 0, self.prompt_tokens)


class _Chunk(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] = []
    error: Any = None


chunk_decoder: Final = msgspec.json.Decoder(_Chunk)
object_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
encoder: Final = msgspec.json.Encoder()


class BadStream(Exception):
    """The engine sent something that is no OpenAI stream, or said in it that it failed."""

    def __init__(self, why: str, passed: bytes = b"") -> None:
        """`passed`: the events before it, which are good."""
        super().__init__(why)
        self.passed = passed
