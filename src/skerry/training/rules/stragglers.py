"""Which ranks hold the others up. Milliseconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

SAMPLES: Final = 10
"""Steps a rank must have been seen to make before anything is said of it."""
RATIO: Final = 1.3
_LEAST_MS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Slow:
    """`ratio`: its median over the median of all others'."""

    rank: int
    step_ms: float
    ratio: float


def slow_ranks(times: Mapping[int, Sequence[float]]) -> list[Slow]:
    """Of each rank's times, slowest first. Ranks that step together take the same time, whoever is slow: a program
    that tells how long it was busy (`skerry.training.user.step(n, busy_seconds=…)`) shows more.
    """
    typical = {rank: median(values) for rank, values in times.items() if len(values) >= SAMPLES}
    found = []
    for rank, own in typical.items():
        others = [value for other, value in typical.items() if other != rank]
        if not others:
            continue
        usual = median(others)
        if own >= RATIO * usual and own - usual >= _LEAST_MS:
            found.append(Slow(rank, own, own / max(usual, 0.001)))
    return sorted(found, key=lambda slow: -slow.ratio)
