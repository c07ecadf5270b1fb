"""The metrics of jobs: series of points, kept in bounded room.

Of a series the last value is always known, and up to `KEPT` points are kept. When there are more, every second one is
dropped and from then on only every second one is taken in, so that what is kept spans the whole run evenly. A job has
up to `SERIES` series; `DAYS` after its end they are dropped.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, and_, bindparam, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.db.database import Tx
from skerry.kernel.errors import Malformed
from skerry.kernel.ids import ProjectId, TrainingJobId
from skerry.kernel.paging import Page, PageRequest
from skerry.training.model import Point, Series
from skerry.training.tables import points as p
from skerry.training.tables import series as s

KEPT: Final = 2000
SERIES: Final = 100
NAME_MAX: Final = 200
DAYS: Final = 90
STEP_MAX: Final = 2**62


@dataclass(frozen=True, slots=True)
class _State:
    """Of a series: how many points came, how many are kept, and which."""

    latest: Point
    seen: int = 0
    points: int = 0
    stride: int = 1


class Measured:
    """Metrics of one project's jobs."""

    async def add(self, tx: Tx, project: ProjectId, job: TrainingJobId, values: Sequence[Point]) -> int:
        """Take in points, in the order in which they were measured; how many new series there was no room for.

        A step that is measured again, after a restart, takes the place of what was measured before.
        """
        by_name: dict[str, list[Point]] = {}
        for point in values:
            by_name.setdefault(point.name, []).append(point)
        states = await self._states(tx, project, job)
        refused = 0
        for name, new in by_name.items():
            if name not in states and len(states) >= SERIES:
                refused += 1
                continue
            states[name] = await self._extend(tx, project, job, states.get(name), new)
        return refused

    async def series(self, tx: Tx, project: ProjectId, job: TrainingJobId) -> list[Series]:
        """By name."""
        found = await self._states(tx, project, job)
        return [
            Series(name, state.latest, state.points, state.stride)
            for name, state in sorted(found.items(), key=lambda item: item[0])
        ]

    async def points(
        self, tx: Tx, project: ProjectId, job: TrainingJobId, names: Sequence[str], request: PageRequest
    ) -> Page[Point]:
        """In the order of steps. `names` empty: of all series."""
        query = select(p).where(p.c.project == project, p.c.job == job)
        if names:
            query = query.where(p.c.name.in_(names))
        if request.after is not None:
            query = query.where(tuple_(p.c.step, p.c.name) > _after(request.after))
        rows = (await tx.execute(query.order_by(p.c.step, p.c.name).limit(request.limit + 1))).all()
        return Page.cut([_point(row) for row in rows], request, lambda point: (str(point.step), point.name))

    async def forget(self, tx: Tx, jobs: Iterable[TrainingJobId]) -> None:
        """Drop the series of these jobs."""
        gone = list(jobs)
        await tx.execute(delete(p).where(p.c.job.in_(gone)))
        await tx.execute(delete(s).where(s.c.job.in_(gone)))

    async def _states(self, tx: Tx, project: ProjectId, job: TrainingJobId) -> dict[str, _State]:
        rows = await tx.execute(select(s).where(s.c.project == project, s.c.job == job))
        return {
            row.name: _State(
                Point(row.name, row.latest_step, row.latest_at, row.latest_value), row.seen, row.points, row.stride
            )
            for row in rows
        }

    async def _extend(
        self, tx: Tx, project: ProjectId, job: TrainingJobId, before: _State | None, new: Sequence[Point]
    ) -> _State:
        name = new[0].name
        again = [point for point in new if before is not None and point.step <= before.latest.step]
        state = before or _State(new[0])
        kept: dict[int, Mapping[str, Any]] = {}
        for point in new:
            if before is not None and point.step <= before.latest.step:
                continue
            if state.seen % state.stride == 0:
                kept[point.step] = _row(project, job, point, state.seen)
            state = _State(point, state.seen + 1, state.points, state.stride)
        for point in again:
            same = and_(p.c.project == project, p.c.job == job, p.c.name == name, p.c.step == point.step)
            await tx.execute(update(p).where(same).values(at=point.at, value=point.value))
        if kept:
            row = upsert(p).values(list(kept.values()))
            changed = {"at": row.excluded.at, "value": row.excluded.value}
            await tx.execute(row.on_conflict_do_update(index_elements=[p.c.job, p.c.name, p.c.step], set_=changed))
        state = await self._thinned(tx, project, job, name, state)
        newest = new[-1]
        latest = newest if before is None or newest.step >= before.latest.step else before.latest
        await self._put(tx, project, job, _State(latest, state.seen, state.points, state.stride))
        return state

    async def _thinned(self, tx: Tx, project: ProjectId, job: TrainingJobId, name: str, state: _State) -> _State:
        mine = and_(p.c.project == project, p.c.job == job, p.c.name == name)
        count = int((await tx.execute(select(func.count()).select_from(p).where(mine))).scalar_one())
        stride = state.stride
        while count > KEPT:
            stride *= 2
            gone = await tx.execute(delete(p).where(mine, p.c.n % bindparam("stride", stride) != 0))
            count -= gone.rowcount
        return _State(state.latest, state.seen, count, stride)

    async def _put(self, tx: Tx, project: ProjectId, job: TrainingJobId, state: _State) -> None:
        latest = state.latest
        values = {
            "seen": state.seen,
            "points": state.points,
            "stride": state.stride,
            "latest_step": latest.step,
            "latest_at": latest.at,
            "latest_value": latest.value,
        }
        row = upsert(s).values(job=job, name=latest.name, project=project, **values)
        await tx.execute(row.on_conflict_do_update(index_elements=[s.c.job, s.c.name], set_=values))


def usable(name: object, step: object, value: object) -> bool:
    """Whether a measured value can be kept: a name in reason, a step from 0, a finite number."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= NAME_MAX
        and name.isprintable()
        and isinstance(step, int)
        and 0 <= step <= STEP_MAX
        and isinstance(value, int | float)
        and math.isfinite(value)
    )


def _row(project: ProjectId, job: TrainingJobId, point: Point, n: int) -> Mapping[str, Any]:
    return {
        "job": job,
        "name": point.name,
        "step": point.step,
        "project": project,
        "n": n,
        "at": point.at,
        "value": point.value,
    }


def _point(row: Row[Any]) -> Point:
    return Point(row.name, row.step, row.at, row.value)


def _after(cursor: tuple[str, ...]) -> tuple[int, str]:
    try:
        step, name = cursor
        number = int(step)
    except ValueError:
        raise Malformed("after is not a cursor of this list", code="bad_cursor") from None
    if not 0 <= number <= STEP_MAX:
        raise Malformed("after is not a cursor of this list", code="bad_cursor")
    return number, name
