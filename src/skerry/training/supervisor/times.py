"""One clock for an attempt: Unix milliseconds that never go back."""

import time


class Stopwatch:
    def __init__(self) -> None:
        self._base = time.time_ns() - time.monotonic_ns()

    def now(self) -> int:
        return (self._base + time.monotonic_ns()) // 1_000_000
