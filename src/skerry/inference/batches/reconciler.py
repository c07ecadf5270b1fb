"""Moves batches from state to state: reads the input, and writes the files when no more rows will be answered.

Rows are sent by `runner`, which changes no status. Whatever dies here is done again: the input is read anew, and a
result file is visible if, and only if, its batch knows it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from skerry.artifacts.files.errors import UnknownFile
from skerry.artifacts.files.model import BATCH_OUTPUT, File
from skerry.db.database import Tx
from skerry.db.notify import WORK, notify
from skerry.inference.batches import rules
from skerry.inference.batches.model import (
    TRANSITIONS,
    Batch,
    BatchStatus,
    FileError,
    ReasonCode,
    because,
)
from skerry.inference.batches.rules import BadLine, InputCheck
from skerry.inference.batches.service import KIND, ROWS, Batches
from skerry.inference.batches.store import BATCHES, BatchWork, Claimed, errors_to_json
from skerry.kernel.errors import Malformed, SkerryError, Unavailable
from skerry.kernel.ids import FileId
from skerry.runtime.reconciler import back_off_seconds
from skerry.runtime.state import Reason, transition

LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 10.0
"""Files take as long as they take to be read and written: the lease is kept meanwhile."""
LONGEST_BACK_OFF: Final = 60.0
INPUT_GONE: Final = "input_file_deleted"


class LeaseLost(Exception):
    """Somebody else has taken the batch over: what was being done is undone."""


@dataclass(frozen=True, slots=True)
class Change:
    """The status a batch goes to, with what is written beside."""

    after: BatchStatus
    reason: Reason
    values: Mapping[str, Any] = field(default_factory=dict)


class BatchReconciler:
    kind = KIND

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.db = batches.db
        self.clock = batches.clock
        self.store = batches.store
        self.files = batches.files
        self.work = BatchWork()

    async def claim(self, limit: int) -> Sequence[Claimed]:
        async with self.db.transaction() as tx:
            return await self.work.claim_steps(tx, limit, LEASE_SECONDS, self.clock.now())

    async def step(self, row: Claimed) -> Change:
        batch = row.batch
        match batch.status:
            case BatchStatus.VALIDATING:
                async with self._keeping(row):
                    return await self._read_input(batch)
            case BatchStatus.IN_PROGRESS:
                return Change(BatchStatus.FINALIZING, because(rules.why_stopped(batch)))
            case _:
                async with self._keeping(row):
                    await self._write_files(row)
                after, why = rules.outcome(batch)
                return Change(after, because(why))

    async def apply(self, row: Claimed, change: Change | None) -> bool:
        if change is None:
            return False
        batch, now = row.batch, self.clock.now()
        async with self.db.transaction() as tx:
            if not await self.work.give_back(tx, batch.id, row.lease_token, due_at=now, failures=0):
                return False
            values = {**change.values, f"{change.after.value}_at": now}
            # Not in its status any more: it was cancelled meanwhile, and is looked at again.
            if await self._move(tx, batch, change, values):
                if TRANSITIONS.is_final(change.after):
                    await self.store.forget_rows(tx, batch.project, batch.id)
                await notify(tx, WORK, ROWS)
        return True

    async def failed(self, row: Claimed, error: Exception) -> None:
        """Files that cannot be read or written now: later, saying why."""
        failures = row.failures + 1
        due_at = self.clock.now() + timedelta(seconds=back_off_seconds(failures, LONGEST_BACK_OFF))
        words = error.detail if isinstance(error, SkerryError) else ""
        reason = because(ReasonCode.RETRYING, words).to_json()
        async with self.db.transaction() as tx:
            await self.work.give_back(
                tx, row.batch.id, row.lease_token, due_at=due_at, failures=failures, status_reason=reason
            )

    @asynccontextmanager
    async def _keeping(self, row: Claimed) -> AsyncIterator[None]:
        """Keep the lease for as long as the block takes."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                with suppress(Unavailable):
                    async with self.db.transaction() as tx:
                        await self.work.renew(tx, [row.lease_token], LEASE_SECONDS, self.clock.now())

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()

    async def _move(self, tx: Tx, batch: Batch, change: Change, values: Mapping[str, Any]) -> bool:
        return await transition(
            tx,
            self.batches.events,
            TRANSITIONS,
            BATCHES,
            id=batch.id,
            project=batch.project,
            before=batch.status,
            after=change.after,
            reason=change.reason,
            values=values,
            kind=KIND,
        )

    async def _read_input(self, batch: Batch) -> Change:
        check, number = InputCheck(batch.endpoint), 0
        try:
            async for _, line in self.files.lines(batch.project, FileId(batch.input_file)):
                number += 1
                check.line(number, line)
                if check.enough:
                    break
        except UnknownFile as gone:
            return _refused((FileError(INPUT_GONE, gone.detail),), ReasonCode.INPUT_GONE)
        except Malformed as unreadable:
            check.errors.append(FileError(unreadable.code, unreadable.detail, number + 1))
        if errors := check.verdict():
            return _refused(errors, ReasonCode.INVALID_INPUT)
        return Change(BatchStatus.IN_PROGRESS, because(ReasonCode.RUNNING), {"total": check.rows})

    # --- the result files
    async def _write_files(self, row: Claimed) -> None:
        """Each is noted in the transaction that makes it visible: it is written once, and none is left over."""
        batch = row.batch
        if batch.counts.completed and batch.output_file is None:
            await self._write(row, "output", self._lines_of(batch, ok=True))
        if (batch.counts.failed or batch.counts.missing) and batch.error_file is None:
            # Of rows that were never read nothing can be said once the input file is gone: there may be no line.
            lines = self._errors(batch)
            first = await anext(lines, None)
            if first is not None:
                await self._write(row, "error", _with_first(first, lines))

    async def _write(self, row: Claimed, name: str, chunks: AsyncIterator[bytes]) -> None:
        async def note(tx: Tx, file: File) -> None:
            if not await self.work.write(tx, row, **{f"{name}_file": file.id}):
                raise LeaseLost

        batch = row.batch
        filename = f"{batch.id}_{name}.jsonl"
        await self.files.write(batch.project, filename=filename, purpose=BATCH_OUTPUT, chunks=chunks, within=note)

    async def _lines_of(self, batch: Batch, *, ok: bool) -> AsyncIterator[bytes]:
        async for result in self.store.contents(self.db, batch.project, batch.id, ok=ok):
            yield result.content + b"\n"

    async def _errors(self, batch: Batch) -> AsyncIterator[bytes]:
        """Rows that were refused, and those that were never answered, in the order of the input."""
        if not batch.counts.missing or batch.errors:
            async for line in self._lines_of(batch, ok=False):
                yield line
            return
        async with self.db.reading() as tx:
            known = await self.store.answered_lines(tx, batch.project, batch.id)
        code, words = rules.unanswered(batch)
        refused = self.store.contents(self.db, batch.project, batch.id, ok=False)
        ahead = await anext(refused, None)
        async for number, custom_id in self._unanswered(batch, known):
            while ahead is not None and ahead.line < number:
                yield ahead.content + b"\n"
                ahead = await anext(refused, None)
            yield rules.failed(batch, number, custom_id, code, words).content + b"\n"
        while ahead is not None:
            yield ahead.content + b"\n"
            ahead = await anext(refused, None)

    async def _unanswered(self, batch: Batch, known: set[int]) -> AsyncIterator[tuple[int, str | None]]:
        """Lines without a result, with their names."""
        number = 0
        try:
            async for _, line in self.files.lines(batch.project, FileId(batch.input_file)):
                number += 1
                if number not in known and line.strip():
                    try:
                        yield number, rules.parse_line(number, line).custom_id
                    except BadLine:
                        yield number, None
        except UnknownFile:
            return


def input_gone() -> list[dict[str, Any]] | None:
    """What the runner writes where the input file went away under it."""
    words = "The input file was deleted while the batch was running."
    return errors_to_json([FileError(INPUT_GONE, words)])


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _refused(errors: tuple[FileError, ...], why: ReasonCode) -> Change:
    return Change(BatchStatus.FAILED, because(why), {"errors": errors_to_json(errors)})
