"""Free nodes over time, as a row of marks. Pure: values in, text out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from skerry.cli.figures import count
from skerry.cli.output import Column
from skerry.client.answers.capacity import Availability, FreeNodes, SiteSchedule

MARKS = "▁▂▃▄▅▆▇█"
NOTHING = "·"
STEPS = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 5, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7 * 1440, 14 * 1440, 28 * 1440, 91 * 1440)
)
"""What a mark may stand for."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Marks for `step` each, from `start` on; `cells` of them."""

    start: datetime
    end: datetime
    step: timedelta
    cells: int

    @classmethod
    def of(cls, found: Availability, width: int) -> "Chart":
        """As fine as fits into so many marks. Marks of a day or more begin at midnight, UTC."""
        length = found.end - found.start
        step = next((one for one in STEPS if length <= one * max(1, width - 1)), STEPS[-1])
        start = found.start - (found.start - found.start.replace(hour=0, minute=0, second=0)) % step
        return cls(start, found.end, step, -(-(found.end - start) // step))

    def marks(self, schedule: Sequence[FreeNodes], most: int) -> str:
        """One mark a step: the fewest nodes that are free in it, of `most`."""
        fewest: list[int | None] = [None] * self.cells
        for part in schedule:
            first = max(0, (part.start - self.start) // self.step)
            last = min(self.cells, -(-(part.end - self.start) // self.step))
            for at in range(first, last):
                before = fewest[at]
                fewest[at] = part.free_nodes if before is None else min(before, part.free_nodes)
        return "".join(" " if free is None else mark(free, most) for free in fewest)

    def axis(self) -> str:
        """Dates over the marks at which they are, as many as there is room for."""
        line = ""
        for at in range(self.cells):
            moment = self.start + at * self.step
            label = f"{moment:%H:%M}" if self.step < timedelta(hours=1) else f"{moment:%d %b}"
            apart = not line or len(line) <= at - 2
            if apart and _is_round(moment, self.step) and at + len(label) <= self.cells:
                line = line.ljust(at) + label
        return line or f"{self.start:%d %b}"[: self.cells]


def mark(free: int, most: int) -> str:
    """Nothing is a dot, all a full block; the smallest block is one node already."""
    if free <= 0 or most <= 0:
        return NOTHING
    return MARKS[min(len(MARKS), max(1, -(-free * len(MARKS) // most))) - 1]


def availability_columns(chart: Chart) -> tuple[Column[SiteSchedule], ...]:
    return (
        Column("site", lambda row: row.site, whole=True),
        Column("sku", lambda row: row.sku, whole=True),
        Column("nodes", lambda row: count(row.nodes), right=True),
        Column("free now", lambda row: count(row.schedule[0].free_nodes if row.schedule else 0), right=True),
        Column("least", lambda row: count(min((one.free_nodes for one in row.schedule), default=0)), right=True),
        Column(chart.axis(), lambda row: chart.marks(row.schedule, row.nodes), whole=True),
    )


def spelled(step: timedelta) -> str:
    """A length of time in its largest whole unit."""
    seconds = int(step.total_seconds())
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            number = seconds // size
            return f"{number:,} {unit}{'s' if number > 1 else ''}"
    return f"{seconds:,} s"


def _is_round(moment: datetime, step: timedelta) -> bool:
    """Where a label belongs: at midnight, or for fine marks at the quarter of an hour."""
    if step < timedelta(hours=1):
        return moment.minute % 15 == 0
    return (moment.hour, moment.minute) == (0, 0) or step >= timedelta(days=1)
