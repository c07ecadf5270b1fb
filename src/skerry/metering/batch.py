"""One batch of facts, looked through once: what can be taken, and which times, hours and dimensions it touches."""

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from skerry.kernel.clock import usage_hour
from skerry.kernel.ids import ProjectId
from skerry.metering import rules
from skerry.metering.model import Dims, Reason, UsageFact

_VERSION_DIGIT = 0xF << 76
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


def source_of(fact_id: UUID) -> int:
    """A fact's id without its version digit.

    The facts of one journal record differ in that digit alone, and share `t1`: one row for all of them is enough to see
    that an id comes again with another time, and costs a fourth.
    """
    return fact_id.int & ~_VERSION_DIGIT


class Batch:
    """`facts` are the first ones of each id, with one `t1` for each source; `refused` says why others are not there."""

    def __init__(self, facts: Iterable[UsageFact], bounds: rules.Bounds) -> None:
        self.facts: list[UsageFact] = []
        self.ends: dict[int, datetime] = {}
        """`t1` by source."""
        self.refused: list[tuple[UsageFact, Reason]] = []
        self.duplicates = 0
        self._ids: set[int] = set()
        self._hours: set[tuple[ProjectId, datetime]] = set()
        self._hour = self._hour_end = _LONG_AGO
        self._dims: dict[int, Dims] = {}
        for fact in facts:
            reason = rules.refusal(fact, bounds) or self._add(fact)
            if reason is not None:
                self.refused.append((fact, reason))

    def hours(self) -> list[tuple[ProjectId, datetime]]:
        """The (project, hour) pairs whose sums these facts change, in order."""
        return sorted(self._hours)

    def days(self) -> list[datetime]:
        """Days that `t1` may lie in. An hour has the next day's first instant where it is the last of its day."""
        hours = {hour for _, hour in self._hours}
        return sorted({at.replace(hour=0) for hour in hours for at in (hour, hour + rules.HOUR)})

    def dims(self) -> dict[UUID, Dims]:
        return {dims.id: dims for dims in self._dims.values()}

    def _add(self, fact: UsageFact) -> Reason | None:
        t1 = fact.t1
        if self.ends.setdefault(source_of(fact.id), t1) != t1:
            return Reason.T1_CHANGED
        number = fact.id.int
        if number in self._ids:
            self.duplicates += 1
            return None
        self._ids.add(number)
        self.facts.append(fact)
        if not self._hour < t1 <= self._hour_end:  # neighbours mostly share their hour
            self._hour = usage_hour(t1)
            self._hour_end = self._hour + rules.HOUR
        self._hours.add((fact.project, self._hour))
        self._dims[id(fact.dims)] = fact.dims
        return None
