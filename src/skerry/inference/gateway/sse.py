"""Server-sent events of an OpenAI stream: passed on as they come, counted, the usage kept back."""

import re
from typing import Annotated, Any, Final

import msgspec

MAX_EVENT: Final = 4 * 1024 * 1024
_CONTENT: Final = re.compile(rb'"(?:content|text|arguments|reasoning_content)":\s*"(?!")')
_BOUNDARY: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_DATA: Final = re.compile(rb"^data:[ ]?(.*)$", re.MULTILINE)


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


class EventStream:
    """One answer's events. `feed` returns the bytes that go on to the client."""

    __slots__ = ("_buffer", "_model", "content", "done", "usage", "usage_event")

    def __init__(self, model: str | None) -> None:
        """`model`: the name to put in place of the engine's own; None where they are the same."""
        self._buffer = b""
        self._model = model
        self.content = 0
        """Events so far that carried text: the tokens delivered, where the engine does not tell."""
        self.usage: Usage | None = None
        self.usage_event: bytes | None = None
        """The JSON of the chunk with only usage in it; the client gets it at the end, if it asked."""
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Raises BadStream."""
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        if (
            self._model is None
            and len(data) < MAX_EVENT
            and _is_plain(data)
            and b'"usage"' not in data
            and b"[DONE]" not in data
            and b'"error"' not in data
            and b"\r" not in data
            and not self.done
        ):
            if data.find(b"\n") == len(data) - 2:
                self.content += _has_content(data)
            else:
                self.content += sum(map(_has_content, data.split(b"\n\n")))
            return data
        before = self.content
        try:
            return self._feed_events(data)
        except BadStream:
            self.content = before  # what came with it is not delivered
            raise

    def _feed_events(self, data: bytes) -> bytes:
        passed: list[bytes] = []
        start = 0
        for boundary in _BOUNDARY.finditer(data):
            event = data[start : boundary.start()]
            start = boundary.end()
            if len(event) > MAX_EVENT:
                raise BadStream("an event that is too long")
            if not self.done and event.strip():
                passed.append(self._event(event))
        self._buffer = data[start:]
        if len(self._buffer) > MAX_EVENT:
            raise BadStream("an event without an end")
        return b"".join(passed)

    def _event(self, event: bytes) -> bytes:
        payload = b"\n".join(_DATA.findall(event.replace(b"\r\n", b"\n").replace(b"\r", b"\n")))
        if not payload:
            if event.startswith(b"error:"):
                raise BadStream("the engine reported an error in the stream")
            return b""
        if payload.strip() == b"[DONE]":
            self.done = True
            return b""
        if b'"usage"' in payload or b'"error"' in payload:
            try:
                chunk = chunk_decoder.decode(payload)
            except msgspec.MsgspecError as error:
                raise BadStream("an event that is not an OpenAI chunk") from error
            if chunk.error is not None:
                raise BadStream("the engine reported an error in the stream")
            if chunk.usage is not None:
                self.usage = chunk.usage
                if not chunk.choices:
                    self.usage_event = payload
                    return b""
                # Some engines send it beside the last choice. The client gets it in a chunk of its own, if it asked.
                payload = without_fields(payload, ("usage", "timings"))
        self.content += _has_content(payload)
        if self._model is not None:
            payload = rename(payload, self._model)
        return b"data: " + payload.replace(b"\n", b"\ndata: ") + b"\n\n"


def _is_plain(data: bytes) -> bool:
    """Whether these are whole events of one line `data: …` each, as we write them ourselves."""
    if not (data.startswith(b"data: ") and data.endswith(b"\n\n")):
        return False
    if data.find(b"\n") == len(data) - 2:
        return len(data) > 8
    events = data.count(b"\n\n")
    return data.count(b"\n") == 2 * events and data.count(b"\n\ndata: ") == events - 1 and b"data: \n" not in data


def _has_content(event: bytes) -> bool:
    """Whether an event carries text. The common spelling needs no regular expression."""
    at = event.find(b'"content":"')
    return (at >= 0 and event[at + 11 : at + 12] != b'"') or _CONTENT.search(event) is not None


def rename(payload: bytes, model: str) -> bytes:
    """The object with its `model` replaced. Raises BadStream where it is no object."""
    try:
        fields = object_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise BadStream("an answer that is not a JSON object") from error
    fields["model"] = msgspec.Raw(encoder.encode(model))
    return encoder.encode(fields)


def without_fields(payload: bytes, names: tuple[str, ...]) -> bytes:
    """The object without some of its fields."""
    fields = object_decoder.decode(payload)
    for name in names:
        fields.pop(name, None)
    return encoder.encode(fields)


def with_fields(payload: bytes, extra: dict[str, Any]) -> bytes:
    """The object with further fields at its end."""
    fields: dict[str, Any] = dict(object_decoder.decode(payload))
    fields.pop("timings", None)
    fields.update(extra)
    return encoder.encode(fields)
