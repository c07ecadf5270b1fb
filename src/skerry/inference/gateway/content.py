"""What was asked and answered, kept for projects that want it in their request log."""

from typing import Final

MOST: Final = 64 * 1024 + 1
"""Bytes taken of each: one more than are kept, so that it shows where there were more."""


class Content:
    """Grows with the answer, up to a limit."""

    def __init__(self, request: bytes) -> None:
        self.request = request[:MOST]
        self._parts: list[bytes] = []
        self._size = 0

    def take(self, data: bytes) -> None:
        room = MOST - self._size
        if room > 0:
            part = data[:room]
            self._parts.append(part)
            self._size += len(part)

    def answer(self) -> bytes:
        return b"".join(self._parts)
