"""Server-sent events of an OpenAI stream: passed on as they come, counted, the usage kept back."""

import re
from typing import Any, Final

import msgspec

from skerry.inference.gateway.shapes import BadStream, Usage, chunk_decoder, encoder, object_decoder

MAX_EVENT: Final = 4 * 1024 * 1024
_CONTENT: Final = re.compile(rb'"(?:content|text|arguments|reasoning_content)":\s*"(?!")')
_BOUNDARY: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_DATA: Final = re.compile(rb"^data:[ ]?(.*)$", re.MULTILINE)


_NEWLINE: Final = 0x0A
_QUOTE: Final = 0x22
_LEAST_EVENT: Final = 10
"""Bytes of `data: {}` and its end."""


class EventStream:
    """One answer's events. `feed` returns the bytes that go on to the client."""

    def __init__(self, model: str | None) -> None:
        """`model`: the name to put in place of the engine's own; None where they are the same."""
        self._buffer = b""
        self._model: str | None = model
        self.content = 0
        """Events so far that carried text: the tokens delivered, where the engine does not tell."""
        self.usage: Usage | None = None
        self.usage_event: bytes | None = None
        """The JSON of the chunk with only usage in it; the client gets it at the end, if it asked."""
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Raises BadStream."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if self._model is not None or self.done or len(data) > MAX_EVENT or not _is_plain(data) or _is_special(data):
            return self._feed_events(data)
        if data.find(b"\n") == len(data) - 2:
            self.content += _has_content(data, 0, len(data))
        else:
            for event in data.split(b"\n\n"):
                self.content += _has_content(event, 0, len(event))
        return data

    def chunks(self, data: bytes) -> int:
        """The same for whole HTTP chunks of one plain event each, which may go on as they are.

        Bytes of events in them; -1, and nothing is counted, where anything is not so simple.
        """
        if self._model is not None or self._buffer or self.done or _is_special(data):
            return -1
        position = 0
        end = len(data)
        payload = 0
        content = 0
        while position < end:
            line = data.find(b"\r\n", position, position + 8)
            size = _chunk_size(data[position:line]) if line > position else 0
            start = line + 2
            stop = start + size
            if size < _LEAST_EVENT or stop + 2 > end or data[stop : stop + 2] != b"\r\n":
                return -1
            if not data.startswith(b"data: {", start) or data.find(b"\n", start, stop) != stop - 2:
                return -1
            if data[stop - 1] != _NEWLINE or data.find(b"\r", start, stop) >= 0:
                return -1
            content += _has_content(data, start, stop)
            payload += size
            position = stop + 2
        self.content += content
        return payload

    def _feed_events(self, data: bytes) -> bytes:
        passed: list[bytes] = []
        start = 0
        try:
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
        except BadStream as error:
            raise BadStream(str(error), b"".join(passed)) from error
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
        self.content += _has_content(payload, 0, len(payload))
        if self._model is not None:
            payload = rename(payload, self._model)
        return b"data: " + payload.replace(b"\n", b"\ndata: ") + b"\n\n"


def _is_plain(data: bytes) -> bool:
    """Whether these are whole events of one line `data: …` each, as we write them ourselves."""
    if not (data.startswith(b"data: ") and data.endswith(b"\n\n")) or b"\r" in data:
        return False
    if data.find(b"\n") == len(data) - 2:
        return len(data) > 8
    events = data.count(b"\n\n")
    return data.count(b"\n") == 2 * events and data.count(b"\n\ndata: ") == events - 1 and b"data: \n" not in data


def _is_special(data: bytes) -> bool:
    """Whether something in it is for us: usage, the end, an error."""
    if b"[DONE]" in data or b'"error"' in data:
        return True
    if b'"usage"' not in data:
        return False
    # Some engines say in each chunk that there is none yet.
    return data.count(b'"usage"') != data.count(b'"usage":null') + data.count(b'"usage": null')


def _chunk_size(digits: bytes) -> int:
    """0 where it is not a plain hexadecimal number."""
    if not digits or digits.strip(b"0123456789abcdefABCDEF"):
        return 0
    return int(digits, 16)


def _has_content(data: bytes, start: int, stop: int) -> int:
    """1 where an event carries text. The common spelling needs no regular expression."""
    at = data.find(b'"content":"', start, stop)
    if at >= 0 and data[at + 11] != _QUOTE:
        return 1
    return 1 if _CONTENT.search(data, start, stop) is not None else 0


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
