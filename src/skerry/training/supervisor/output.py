"""What a rank writes: passed on to the log line by line, with the last lines kept and numbers picked out."""

import os
from collections import deque
from collections.abc import Callable
from typing import Final

_CHUNK: Final = 1 << 16
_LONGEST: Final = 1 << 16
_TAIL: Final = 20
_TAIL_BYTES: Final = 4000


class RankOutput:
    """Reads one end of a pipe that a rank writes to. `on_line` gets each whole line.

    With several ranks each line begins with `[rank N] `, and of a line that was rewritten with carriage returns (a
    progress bar) the last version is kept. One rank alone is passed on byte for byte.
    """

    def __init__(self, rank: int, fd: int, log: int, *, tagged: bool, on_line: Callable[[int, str], None]) -> None:
        self.rank = rank
        self.fd = fd
        self._log = log
        self._tag = f"[rank {rank}] ".encode() if tagged else b""
        self._on_line = on_line
        self._part = b""
        self._open = True
        self._tail: deque[str] = deque(maxlen=_TAIL)
        os.set_blocking(fd, False)

    @property
    def tail(self) -> str:
        return "\n".join([*self._tail, self._part.decode("utf-8", "replace")]).strip("\n")[-_TAIL_BYTES:]

    def read(self) -> bool:
        """Take what is there. False: nobody has the other end any more."""
        while self._open:
            try:
                data = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._take(data)
        return False

    def close(self) -> None:
        """What it wrote last stays to be asked for."""
        if self._open:
            self._open = False
            self._flush()
            os.close(self.fd)

    @property
    def closed(self) -> bool:
        return not self._open

    def _take(self, data: bytes) -> None:
        if not self._tag:
            write_all(self._log, data)
        *lines, self._part = (self._part + data).split(b"\n")
        passed = [self._line(line) for line in lines]
        if len(self._part) > _LONGEST:
            passed.append(self._line(self._part))
            self._part = b""
        if self._tag and passed:
            write_all(self._log, b"".join(passed))

    def _line(self, line: bytes) -> bytes:
        line = line.rstrip(b"\r").rpartition(b"\r")[2]
        text = line.decode("utf-8", "replace")
        self._tail.append(text)
        self._on_line(self.rank, text)
        return self._tag + line + b"\n"

    def _flush(self) -> None:
        if self._part:
            line = self._line(self._part)
            self._part = b""
            write_all(self._log, line if self._tag else b"\n")


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
