"""Single keys, without Enter."""

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def single_keys() -> Iterator[Callable[[float], str]]:
    """A function that waits up to so many seconds for a key; empty where none came. The terminal is put back after."""
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle)

        def read(seconds: float) -> str:
            ready, _, _ = select.select([handle], [], [], seconds)
            return os.read(handle, 64).decode(errors="replace") if ready else ""

        yield read
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
