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
_RETURN: Final = 0x0D
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_LEAST_EVENT: Final = 10
"""Bytes of `data: {}` and its end."""
_LONG_TEXT: Final = 48
"""Bytes of one token's text above which its event is looked at with care: the compiled loop is for short ones."""


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
        self.plain: int = 0
        """Bytes of events that `chunks` let through."""
        self._before = b""
        self._after = b""
        """Of the last plain event, what stood before and after its text."""

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

        Bytes of `data` that are such chunks: up to the first that is not so simple. Events of one stream differ in
        little but their text, so what surrounds it is compared with the event before instead of being searched.
        """
        if self._model is not None or self._buffer or self.done:
            return 0
        position = 0
        end = len(data)
        before = self._before
        after = self._after
        head = len(before)
        rest = len(after)
        while position < end:
            start = _chunk_start(data, position, end)
            if not start:
                break
            size = _chunk_size(data, position, start - 2)
            stop = start + size
            if size < _LEAST_EVENT or stop + 2 > end or data[stop] != _RETURN or data[stop + 1] != _NEWLINE:
                break
            if (
                rest
                and head + rest < size
                and data[start : start + head] == before
                and data[stop - rest : stop] == after
                and _is_text(data, start + head, stop - rest)
            ):
                self.content += 1
            else:
                if not self._take(data[start:stop]):
                    break
                before = self._before
                after = self._after
                head = len(before)
                rest = len(after)
            self.plain += size
            position = stop + 2
        return position

    def _take(self, event: bytes) -> bool:
        """Count a chunk's payload if it is one plain event, and remember how it looks."""
        if not event.startswith(b"data: {") or event.find(b"\n") != len(event) - 2 or not event.endswith(b"\n\n"):
            return False
        if event.find(b"\r") >= 0 or _is_special(event):
            return False
        text = _CONTENT.search(event)
        self._after = b""
        if text is None:
            return True
        self.content += 1
        begin = text.end()
        end = event.find(b'"', begin)
        if end > begin and event[end - 1] != _BACKSLASH:
            self._before = event[:begin]
            self._after = event[end:]
        return True

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
        if payload.find(b'"usage"') >= 0 or payload.find(b'"error"') >= 0:
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
    if not (data.startswith(b"data: ") and data.endswith(b"\n\n")) or data.find(b"\r") >= 0:
        return False
    if data.find(b"\n") == len(data) - 2:
        return len(data) > 8
    events = data.count(b"\n\n")
    return data.count(b"\n") == 2 * events and data.count(b"\n\ndata: ") == events - 1 and data.find(b"data: \n") < 0


def _is_special(data: bytes) -> bool:
    """Whether something in it is for us: usage, the end, an error.

    `find`, since `in` first tries the needle as a number, and raises and catches an exception for it.
    """
    if data.find(b"[DONE]") >= 0 or data.find(b'"error"') >= 0:
        return True
    if data.find(b'"usage"') < 0:
        return False
    # Some engines say in each chunk that there is none yet.
    return data.count(b'"usage"') != data.count(b'"usage":null') + data.count(b'"usage": null')


def _chunk_start(data: bytes, position: int, end: int) -> int:
    """Where the payload of the chunk at `position` begins; 0 where there is no plain line with its size."""
    place = position
    last = min(end - 1, position + 8)
    while place < last:
        if data[place] == _RETURN:
            return place + 2 if data[place + 1] == _NEWLINE else 0
        place += 1
    return 0


def _chunk_size(data: bytes, start: int, stop: int) -> int:
    """The hexadecimal number there; 0 where it is none."""
    size = 0
    for place in range(start, stop):
        digit = data[place]
        if 0x30 <= digit <= 0x39:
            size = size * 16 + digit - 0x30
        elif 0x61 <= digit <= 0x66:
            size = size * 16 + digit - 0x57
        elif 0x41 <= digit <= 0x46:
            size = size * 16 + digit - 0x37
        else:
            return 0
    return size


def _is_text(data: bytes, start: int, stop: int) -> bool:
    """Whether this is the inside of one JSON string, on one line, as far as events are concerned; and short."""
    if stop - start > _LONG_TEXT:
        return False
    return all(data[place] not in (_QUOTE, _NEWLINE, _RETURN) for place in range(start, stop))


def _has_content(data: bytes, start: int, stop: int) -> int:
    """1 where an event carries text. The common spelling needs no regular expression."""
    at = data.find(b'"content":"', start, stop)
    if 0 <= at < stop - 11 and data[at + 11] != _QUOTE:
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
