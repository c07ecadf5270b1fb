"""Rows of the request log. Every look at them takes the project."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, or_, select, text

from skerry.db.database import Tx, driver_connection
from skerry.inference.requests import copying
from skerry.inference.requests.model import IdRange, LoggedRequest, Search
from skerry.inference.requests.tables import request_content, request_log
from skerry.kernel.ids import KeyId, ProjectId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.journal.records import AnswerRecord, ContentRecord

_COPY_ANSWERS = f"COPY request_log ({copying.ANSWER_COLUMNS}) FROM STDIN (FORMAT binary)"
_COPY_CONTENT = f"COPY request_content ({copying.CONTENT_COLUMNS}) FROM STDIN (FORMAT binary)"
_COLUMNS = tuple(request_log.c)


class RequestStore:
    async def add(self, tx: Tx, records: Sequence[AnswerRecord]) -> None:
        await _copy(tx, _COPY_ANSWERS, copying.answer_rows(records))

    async def add_content(self, tx: Tx, records: Sequence[ContentRecord]) -> None:
        await _copy(tx, _COPY_CONTENT, copying.content_rows(records))

    async def limit_seconds(self, tx: Tx, seconds: int) -> None:
        """Of each statement of this transaction: a search for what is rare reads much."""
        await tx.execute(text("SELECT set_config('statement_timeout', :limit, true)"), {"limit": f"{seconds}s"})

    async def list(
        self,
        tx: Tx,
        project: ProjectId,
        search: Search,
        page: PageRequest,
        after: UUID | None,
        *,
        keys: Collection[KeyId] | None = None,
        ids: IdRange | None = None,
        keys_like: Collection[KeyId] = (),
    ) -> Page[LoggedRequest]:
        """Newest first. `keys`: of these alone; `ids` and `keys_like`: what `search.q` stands for beside a model."""
        table = request_log.c
        query = select(*_COLUMNS).where(table.project == project)
        query = _narrowed(query, search)
        if keys is not None:
            query = query.where(table.key.in_(keys))
        if search.q is not None:
            matches = [table.model.icontains(search.q, autoescape=True), table.key.in_(keys_like)]
            if ids is not None:
                matches.append(table.id.between(ids.first, ids.last))
            query = query.where(or_(*matches))
        if after is not None:
            query = query.where(table.id < after)
        rows = await tx.execute(query.order_by(table.id.desc()).limit(page.limit + 1))
        return Page.cut([_request(row) for row in rows], page, lambda request: (request.id.hex,))

    async def get(self, tx: Tx, project: ProjectId, id: UUID) -> LoggedRequest | None:
        query = select(*_COLUMNS).where(request_log.c.project == project, request_log.c.id == id).limit(1)
        row = (await tx.execute(query)).one_or_none()
        return _request(row) if row else None

    async def sealed_content(self, tx: Tx, project: ProjectId, id: UUID) -> bytes | None:
        table = request_content.c
        query = select(table.sealed).where(table.project == project, table.id == id).limit(1)
        found = (await tx.execute(query)).scalar_one_or_none()
        return None if found is None else bytes(found)


def _narrowed(query: Select[Any], search: Search) -> Select[Any]:
    table = request_log.c
    if search.model is not None:
        query = query.where(table.model == search.model)
    if search.batch is not None:
        query = query.where(table.batch == search.batch)
    if search.status is not None:
        query = query.where(table.status.between(search.status.first, search.status.last))
    if search.min_us is not None:
        query = query.where(table.total_us >= search.min_us)
    return _within(query, search.since, search.until)


def _within(query: Select[Any], since: datetime | None, until: datetime | None) -> Select[Any]:
    if since is not None:
        query = query.where(request_log.c.ended_at >= since)
    if until is not None:
        query = query.where(request_log.c.ended_at < until)
    return query


async def _copy(tx: Tx, statement: str, data: bytes) -> None:
    connection = await driver_connection(tx)
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        await copy.write(data)


def _request(row: Row[Any]) -> LoggedRequest:
    return LoggedRequest(
        id=row.id,
        project=ProjectId(row.project),
        key=KeyId(row.key),
        model=row.model,
        endpoint=row.endpoint,
        replica=row.replica,
        kind=row.kind,
        batch=row.batch,
        status=row.status,
        stream=row.stream,
        prompt=row.prompt,
        cached=row.cached,
        completion=row.completion,
        egress_bytes=row.egress_bytes,
        queue_us=row.queue_us,
        first_us=row.first_us,
        total_us=row.total_us,
        counted=row.counted,
        cost_nano=row.cost_nano,
        ended_at=row.ended_at,
    )
