"""Half-open windows `[start, end)` in UTC whole seconds, and schedules: a count over time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from skerry.kernel.clock import require_utc


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """`[start, end)`: `end` does not belong to it, so windows that touch do not overlap.

    Raises ValueError for naive times, parts of seconds, and an end that is not after the start.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", require_utc(self.start))
        object.__setattr__(self, "end", require_utc(self.end))
        if self.start.microsecond or self.end.microsecond:
            raise ValueError("a window is made of whole seconds")
        if self.end <= self.start:
            raise ValueError("a window ends after it starts")

    @property
    def seconds(self) -> int:
        delta = self.end - self.start
        return delta.days * 86_400 + delta.seconds

    def contains(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def overlaps(self, other: "Window") -> bool:
        return self.start < other.end and other.start < self.end

    def intersection(self, other: "Window") -> "Window | None":
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Window(start, end) if start < end else None

    def hours(self) -> Iterator["Window"]:
        """The window cut at full hours."""
        start = self.start
        while start < self.end:
            end = min(start.replace(minute=0, second=0) + timedelta(hours=1), self.end)
            yield Window(start, end)
            start = end


@dataclass(frozen=True, slots=True)
class Span:
    """`count` units for one window."""

    window: Window
    count: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Capacity over time: spans in order, none overlapping, neighbours of equal count joined, zero counts left out."""

    spans: tuple[Span, ...]

    @classmethod
    def of(cls, spans: Iterable[Span]) -> "Schedule":
        """The sum of the spans: where they overlap, their counts add."""
        changes: dict[datetime, int] = {}
        for span in spans:
            changes[span.window.start] = changes.get(span.window.start, 0) + span.count
            changes[span.window.end] = changes.get(span.window.end, 0) - span.count
        merged: list[Span] = []
        level = 0
        for start, end in pairwise(sorted(changes)):
            level += changes[start]
            if not level:
                continue
            if merged and merged[-1].count == level and merged[-1].window.end == start:
                merged[-1] = Span(Window(merged[-1].window.start, end), level)
            else:
                merged.append(Span(Window(start, end), level))
        return cls(tuple(merged))

    def __add__(self, other: "Schedule") -> "Schedule":
        return Schedule.of((*self.spans, *other.spans))

    def __sub__(self, other: "Schedule") -> "Schedule":
        return Schedule.of((*self.spans, *(Span(s.window, -s.count) for s in other.spans)))

    def at(self, instant: datetime) -> int:
        return next((s.count for s in self.spans if s.window.contains(instant)), 0)

    def peak(self) -> int:
        return max((s.count for s in self.spans), default=0)

    @property
    def unit_seconds(self) -> int:
        """Σ count × seconds, for instance node-seconds."""
        return sum(s.count * s.window.seconds for s in self.spans)
