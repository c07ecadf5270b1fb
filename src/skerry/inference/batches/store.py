"""SQL of batches. Methods for people take the project; `BatchWork` leases across projects."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Database, Tx
from skerry.inference.batches.model import (
    Batch,
    BatchStatus,
    Counts,
    Endpoint,
    FileError,
    Result,
    Usage,
)
from skerry.inference.batches.tables import batch_rows, batches
from skerry.kernel.ids import BatchId, KeyId, ProjectId
from skerry.runtime.state import Reason

BATCHES: Final = batches
_PAGE_BYTES: Final = 4 * 1024 * 1024
_PAGE_ROWS: Final = 500
_OPEN: Final = tuple(
    status.value
    for status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.CANCELLING)
)

b = batches.c


@dataclass(frozen=True, slots=True)
class Claimed:
    """A batch that is ours until its lease ends. `failures`: steps in a row that failed."""

    batch: Batch
    lease_token: str
    failures: int


class BatchStore:
    async def insert(self, tx: Tx, batch: Batch) -> None:
        await tx.execute(
            insert(batches).values(
                id=batch.id,
                project=batch.project,
                key=batch.key,
                endpoint=batch.endpoint.value,
                input_file=batch.input_file,
                completion_window=batch.completion_window,
                metadata=dict(batch.metadata),
                status=batch.status.value,
                status_reason=batch.reason.to_json(),
                due_at=batch.created_at,
                created_at=batch.created_at,
                updated_at=batch.updated_at,
                expires_at=batch.expires_at,
            )
        )

    async def get(self, tx: Tx, project: ProjectId, id: BatchId) -> Batch | None:
        row = (await tx.execute(select(batches).where(b.project == project, b.id == id))).first()
        return _batch(row) if row is not None else None

    async def page(self, tx: Tx, project: ProjectId, after: BatchId | None, limit: int) -> list[Batch]:
        """The newest first; one more than `limit` where there are more."""
        query = select(batches).where(b.project == project)
        if after is not None:
            query = query.where(b.id < after)
        return [_batch(row) for row in await tx.execute(query.order_by(b.id.desc()).limit(limit + 1))]

    async def count_open(self, tx: Tx, project: ProjectId) -> int:
        query = select(func.count()).select_from(batches).where(b.project == project, b.status.in_(_OPEN))
        return int((await tx.execute(query)).scalar_one())

    async def answered_lines(self, tx: Tx, project: ProjectId, id: BatchId) -> set[int]:
        """Lines of the input file whose results are known."""
        rows = batch_rows.c
        query = select(rows.line).where(rows.batch == id, rows.project == project)
        return {row.line for row in await tx.execute(query)}

    async def add_results(
        self, tx: Tx, project: ProjectId, id: BatchId, lease_token: str, results: Sequence[Result], now: datetime
    ) -> bool:
        """Keep results, each line once, and count them. False, and nothing kept, where it is too late for them:
        the lease is another's and the files are being written."""
        ours = or_(b.lease_token == lease_token, b.status == BatchStatus.IN_PROGRESS.value)
        found = await tx.execute(select(b.id).where(b.id == id, b.project == project, ours).with_for_update())
        if found.first() is None:
            return False
        added = await tx.execute(
            upsert(batch_rows)
            .values(
                [
                    {"batch": id, "line": result.line, "project": project, "ok": result.ok, "content": result.content}
                    for result in results
                ]
            )
            .on_conflict_do_nothing()
            .returning(batch_rows.c.line)
        )
        new = {row.line for row in added}
        if new:
            counted = _sums([result for result in results if result.line in new])
            changes: dict[str, Any] = {name: b[name] + value for name, value in counted.items()}
            await tx.execute(update(batches).where(b.id == id).values(updated_at=now, **changes))
        return True

    async def contents(self, db: Database, project: ProjectId, id: BatchId, *, ok: bool) -> AsyncIterator[Result]:
        """Results in the order of lines, read page by page."""
        rows, last = batch_rows.c, 0
        size = func.sum(func.length(rows.content)).over(order_by=rows.line)
        while True:
            page = (
                select(rows.line, rows.content, size.label("size"))
                .where(rows.batch == id, rows.project == project, rows.ok == ok, rows.line > last)
                .order_by(rows.line)
                .limit(_PAGE_ROWS)
                .subquery()
            )
            # A page is bounded by bytes too, but never empty while there is something.
            query = select(page).where(or_(page.c.size <= _PAGE_BYTES, page.c.size == func.length(page.c.content)))
            async with db.reading() as tx:
                found = (await tx.execute(query.order_by(page.c.line))).all()
            if not found:
                return
            for row in found:
                yield Result(row.line, ok, row.content)
            last = found[-1].line

    async def forget_rows(self, tx: Tx, project: ProjectId, id: BatchId) -> None:
        """They are in files now."""
        await tx.execute(delete(batch_rows).where(batch_rows.c.batch == id, batch_rows.c.project == project))


class BatchWork:
    """Leases of the reconciler and of the runner, across projects. Each sees what the other leaves alone."""

    async def claim_steps(self, tx: Tx, limit: int, lease_seconds: float, now: datetime) -> list[Claimed]:
        """Batches that want a change of status."""
        stopped = and_(b.status == BatchStatus.IN_PROGRESS.value, ~_has_rows_to_send(now))
        others = (BatchStatus.VALIDATING, BatchStatus.FINALIZING, BatchStatus.CANCELLING)
        wanted = or_(b.status.in_([status.value for status in others]), stopped)
        return await self._claim(tx, wanted, limit, lease_seconds, now)

    async def claim_runs(
        self, tx: Tx, limit: int, a_project: int, lease_seconds: float, now: datetime
    ) -> list[Claimed]:
        """Batches with rows to send: of each project the first `a_project`, whoever has them."""
        ready = and_(b.status == BatchStatus.IN_PROGRESS.value, _has_rows_to_send(now))
        place = func.row_number().over(partition_by=b.project, order_by=b.id).label("place")
        ranked = select(b.id, place).where(ready).subquery()
        first = exists().where(ranked.c.id == b.id, ranked.c.place <= a_project)
        return await self._claim(tx, and_(ready, first), limit, lease_seconds, now)

    async def held(self, tx: Tx, tokens: Sequence[str]) -> dict[str, BatchStatus]:
        """The status of the batches that are still leased with these tokens."""
        rows = await tx.execute(select(b.lease_token, b.status).where(b.lease_token.in_(tokens)))
        return {row.lease_token: BatchStatus(row.status) for row in rows}

    async def renew(self, tx: Tx, tokens: Sequence[str], lease_seconds: float, now: datetime) -> None:
        until = now + timedelta(seconds=lease_seconds)
        await tx.execute(update(batches).where(b.lease_token.in_(tokens)).values(lease_until=until))

    async def write(self, tx: Tx, claimed: Claimed, **values: Any) -> bool:
        """Change the batch and keep the lease. False: the lease was lost."""
        return await guarded_update(tx, batches, claimed.batch.id, claimed.lease_token, values, release=False)

    async def give_back(self, tx: Tx, id: BatchId, lease_token: str, **values: Any) -> bool:
        """False: the lease was lost."""
        return await guarded_update(tx, batches, id, lease_token, values)

    async def _claim(
        self, tx: Tx, where: ColumnElement[bool], limit: int, lease_seconds: float, now: datetime
    ) -> list[Claimed]:
        rows = await claim_rows(
            tx,
            batches,
            where=and_(where, b.due_at <= now),
            order_by=[b.due_at, b.id],
            limit=limit,
            lease_seconds=lease_seconds,
            now=now,
        )
        return [Claimed(_batch(row), row.lease_token, row.failures) for row in rows]


def _has_rows_to_send(now: datetime) -> ColumnElement[bool]:
    return and_(b.expires_at > now, b.completed + b.failed < b.total, b.errors.is_(None))


def _sums(results: Sequence[Result]) -> dict[str, Any]:
    completed = sum(result.ok for result in results)
    return {
        "completed": completed,
        "failed": len(results) - completed,
        "tokens_prompt": sum(result.usage.prompt for result in results),
        "tokens_cached": sum(result.usage.cached for result in results),
        "tokens_completion": sum(result.usage.completion for result in results),
        "cost": sum(result.usage.cost for result in results),
    }


def errors_to_json(errors: Sequence[FileError]) -> list[dict[str, Any]] | None:
    return [
        {"code": error.code, "message": error.message, "line": error.line, "param": error.param} for error in errors
    ] or None


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        id=BatchId(row.id),
        project=ProjectId(row.project),
        key=KeyId(row.key),
        endpoint=Endpoint(row.endpoint),
        input_file=row.input_file,
        completion_window=row.completion_window,
        metadata=row._mapping["metadata"],
        status=BatchStatus(row.status),
        reason=Reason(row.status_reason["code"], row.status_reason["message"]),
        created_at=row.created_at,
        expires_at=row.expires_at,
        updated_at=row.updated_at,
        counts=Counts(row.total, row.completed, row.failed),
        usage=Usage(row.tokens_prompt, row.tokens_cached, row.tokens_completion, row.cost),
        errors=tuple(FileError(**error) for error in row.errors or ()),
        output_file=row.output_file,
        error_file=row.error_file,
        in_progress_at=row.in_progress_at,
        finalizing_at=row.finalizing_at,
        completed_at=row.completed_at,
        failed_at=row.failed_at,
        expired_at=row.expired_at,
        cancelling_at=row.cancelling_at,
        cancelled_at=row.cancelled_at,
    )
