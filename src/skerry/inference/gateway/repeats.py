"""The head of a message that is, byte for byte, the head of the one before it on the same connection.

Clients and servers that keep a connection alive say the same in each head, but for the length of the body. Where a
parser has read such a head once, from the same state, it would read it the same way again.
"""

from typing import Final

LEARNED_IN_VAIN: Final = 8
"""After so many heads that did not come again, one in so many is still remembered."""
LONGEST: Final = 2048
"""Bytes of a head that is remembered."""
MOST_DIGITS: Final = 9
_LENGTH: Final = b"\r\ncontent-length:"


class KnownHead:
    """Of the last message that had one: what stands before and after the number of its `content-length`."""

    def __init__(self) -> None:
        self._before = b""
        self._after = b""
        self._vain = 0

    def body_of(self, data: bytes) -> int:
        """Where the body begins, if `data` is that head again with a body of just the length it says; 0 if not."""
        place = len(self._before)
        if not place or data[:place] != self._before:
            return 0
        end = len(data)
        last = min(end, place + MOST_DIGITS)
        length = 0
        while place < last:
            digit = data[place] - 0x30
            if digit < 0 or digit > 9:
                break
            length = length * 10 + digit
            place += 1
        start = place + len(self._after)
        if place == len(self._before) or start + length != end or data[place:start] != self._after:
            return 0
        self._vain = 0
        return start

    def learn(self, data: bytes, start: int) -> bool:
        """One whole message was read from `data`; its body begins at `start` and is framed by its length alone.

        Whether it was remembered.
        """
        self._vain += 1
        if start > LONGEST or (self._vain > LEARNED_IN_VAIN and self._vain % LEARNED_IN_VAIN):
            return False
        self._before = b""
        if data.find(b"\r\n\r\n") + 4 != start:
            return False  # blank lines around it
        head = data[:start]
        low = head.lower()
        place = low.find(_LENGTH) + len(_LENGTH)
        if place < len(_LENGTH) or low.find(_LENGTH, place) >= 0:
            return False
        if head[place] == 0x20:
            place += 1
        end = head.find(b"\r", place)
        if head[place:end] != b"%d" % (len(data) - start):
            return False
        self._before = head[:place]
        self._after = head[end:]
        return True
