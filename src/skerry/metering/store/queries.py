"""Reading sums: from the roll-ups, and from the facts themselves where an hour has to be split."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Row,
    Select,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)

from skerry.db.database import Tx
from skerry.kernel.ids import ProjectId
from skerry.metering.model import BATCHED, RESERVATION, Meter, UsageQuery, UsageSum
from skerry.metering.rules import HOUR, bucket_window, split_hours
from skerry.metering.tables import usage_dims, usage_facts, usage_rollups

_TIME = DateTime(timezone=True)
_INSTANT = timedelta(microseconds=1)


class UsageQueries:
    """Every method takes the project: the sums of two projects never mix."""

    async def sums(
        self,
        tx: Tx,
        project: ProjectId,
        query: UsageQuery,
        cuts: Sequence[datetime] = (),
        *,
        project_name: str = "",
        resource: str | None = None,
        after: tuple[datetime, tuple[str, ...]] | None = None,
        limit: int | None = None,
    ) -> list[UsageSum]:
        """Sums in the order of bucket, meter, groups, segment; those after the key `after`: bucket, (meter, groups…).

        `cuts` are sorted and inside the window. An hour with a cut inside is answered from its facts. A fact belongs to
        the segment of its last instant, as it belongs to the hour of it: what ended at the cut came before it.
        """
        sums = _sums(project, project_name or project, query, cuts, resource).subquery()
        groups = [func.coalesce(sums.c[f"g{n}"], "") for n in range(len(query.group_by))]
        texts = [text.collate("C") for text in (sums.c.meter, *groups)]
        page = select(sums).order_by(sums.c.bucket, *texts, sums.c.segment).limit(limit)
        if after is not None:
            page = page.where(tuple_(sums.c.bucket, *texts) > tuple_(after[0], *after[1]))
        return [_usage_sum(row, query) for row in await tx.execute(page)]


def _sums(
    project: ProjectId, project_name: str, query: UsageQuery, cuts: Sequence[datetime], resource: str | None
) -> Select[Any]:
    """Quantities by bucket, segment, meter and `g0`, `g1` … for the names grouped by."""
    rollups, facts = _from_rollups(project, query, cuts), _from_facts(project, query, cuts)
    if resource is not None:
        rollups = rollups.where(usage_rollups.c.resource == resource)
        facts = facts.where(usage_facts.c.resource == resource)
    pieces = union_all(rollups, facts).subquery()
    # Summed by the hash of the dims first: that is what makes many rows few, and the names are looked up once each.
    coarse = [pieces.c.bucket, pieces.c.segment, pieces.c.meter, pieces.c.dims]
    if "resource" in query.group_by:
        coarse.append(pieces.c.resource)
    if RESERVATION in query.group_by:
        reserved = pieces.c.meter == Meter.NODE_SECONDS_RESERVED.value
        coarse.append(case((reserved, pieces.c.resource)).label(RESERVATION))
    by_dims = select(*coarse, func.sum(pieces.c.quantity).label("quantity")).group_by(*coarse).subquery()
    groups = [_group(name, project_name, by_dims).label(f"g{n}") for n, name in enumerate(query.group_by)]
    keys = [by_dims.c.bucket, by_dims.c.segment, by_dims.c.meter]
    return (
        select(*keys, *groups, func.sum(by_dims.c.quantity).label("quantity"))
        .join_from(by_dims, usage_dims, usage_dims.c.id == by_dims.c.dims)
        .group_by(*keys, *(f"g{n}" for n in range(len(groups))))
    )


def _from_rollups(project: ProjectId, query: UsageQuery, cuts: Sequence[datetime]) -> Select[Any]:
    r, window = usage_rollups.c, query.window
    rows = _pieces(query, r.hour, cuts, r.meter, r.dims, r.resource, r.quantity)
    return rows.where(
        r.project == project, r.hour >= window.start, r.hour < window.end, r.hour.not_in(split_hours(cuts))
    )


def _from_facts(project: ProjectId, query: UsageQuery, cuts: Sequence[datetime]) -> Select[Any]:
    f = usage_facts.c
    hours = or_(literal(False), *(and_(f.t1 > hour, f.t1 <= hour + HOUR) for hour in split_hours(cuts)))
    rows = _pieces(query, f.t1 - _INSTANT, cuts, f.meter, f.dims, f.resource, f.quantity)
    return rows.where(f.project == project, hours)


def _pieces(query: UsageQuery, at: ColumnElement[Any], cuts: Sequence[datetime], *columns: Any) -> Select[Any]:
    bucket = literal(query.window.start, _TIME) if query.bucket is None else func.date_trunc(query.bucket.value, at)
    segment = func.width_bucket(at, cast(list(cuts), ARRAY(_TIME)))
    return select(bucket.label("bucket"), segment.label("segment"), *columns)


def _group(name: str, project_name: str, sums: Subquery) -> ColumnElement[Any]:
    if name == "project":
        return literal(project_name)
    if name in ("resource", RESERVATION):
        return sums.c[name]
    if name == BATCHED:
        return case((usage_dims.c.dims.has_key("batch"), literal("yes")))
    value: ColumnElement[Any] = usage_dims.c.dims[name].astext
    return value


def _usage_sum(row: Row[Any], query: UsageQuery) -> UsageSum:
    groups = {name: getattr(row, f"g{n}") for n, name in enumerate(query.group_by)}
    window = bucket_window(query.bucket, row.bucket, query.window)
    return UsageSum(window, Meter(row.meter), int(row.quantity), groups, row.segment)
