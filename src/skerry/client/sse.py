"""Server-sent events, as far as OpenAI's streams use them."""


class EventDecoder:
    r"""Bytes in any pieces in, the `data` of each event out.

    Works on bytes and cuts at line feeds only: `str.splitlines` would also cut at U+2028, which JSON may contain.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events
