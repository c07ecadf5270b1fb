"""Sends the rows of batches to gateways, and keeps what they answer.

It remembers nothing that must not be lost: a row without a result in the database is sent again by whoever has the
batch next, under the same record id, so that it is charged once.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from skerry.artifacts.files.errors import UnknownFile
from skerry.db.notify import WORK, notify
from skerry.inference.batches import rules
from skerry.inference.batches.model import Batch, BatchStatus, ReasonCode, Result, Row, RowErrorCode, because
from skerry.inference.batches.pacing import Pace, Turns
from skerry.inference.batches.reconciler import input_gone
from skerry.inference.batches.rules import Answer, Verdict
from skerry.inference.batches.run import Run, Waiting
from skerry.inference.batches.sending import GatewayAway, Sender
from skerry.inference.batches.service import KIND, ROWS, Batches
from skerry.inference.batches.store import BatchWork
from skerry.inference.gateway.tickets import BatchTicket, Tickets
from skerry.kernel.errors import SkerryError, Unavailable
from skerry.kernel.ids import FileId
from skerry.runtime.reconciler import Observe

LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 10.0
TRUSTED_SECONDS: Final = 20.0
"""A lease that could not be renewed for so long is not relied upon: nothing more is sent."""
GRACE_SECONDS: Final = 30.0
"""For rows under way when their batch is cancelled or expires."""
TURN_SECONDS: Final = 60.0
"""A batch gives way after so long, where others wait for a place."""
FLUSH_SECONDS: Final = 0.2
LOOK_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 30.0
"""Until a file that could not be read is read again."""
TICKET_SECONDS: Final = 300
MOST_UNSAVED: Final = 1000
"""Results in memory; with more nothing is sent until the database has taken them."""
_FLUSH_ROWS: Final = 200
_MOST_MODELS: Final = 1000

_OUTCOMES: Final = {True: "completed", False: "refused"}


class BatchRunner:
    """`rows`: under way at once, of all batches; `runs`: batches at once, `a_project` of them of one project."""

    def __init__(
        self,
        batches: Batches,
        sender: Sender,
        tickets: Tickets,
        wake: asyncio.Event,
        *,
        rows: int = 64,
        runs: int = 64,
        a_project: int = 4,
        observe: Observe = lambda kind, outcome, seconds: None,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: random.Random | None = None,
    ) -> None:
        self.batches = batches
        self.db, self.clock = batches.db, batches.clock
        self._sender, self._tickets, self._wake = sender, tickets, wake
        self._most_rows, self._most_runs, self._a_project = rows, runs, a_project
        self._observe, self._now = observe, monotonic
        self._jitter = jitter or random.Random()
        self._work = BatchWork()
        self._runs: dict[str, Run] = {}
        """By lease token."""
        self._turns: Turns[Run] = Turns()
        self._paces: dict[str, Pace] = {}
        self._under_way = 0
        self._looked = self._flushed = float("-inf")
        self._log = structlog.get_logger("skerry.inference.batches")

    async def run(self) -> None:
        """Until it is cancelled; then rows under way are dropped, and the batches given back."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._tend()
                except Unavailable as error:
                    self._log.warning("batches_wait", reason=error.detail)
                    await asyncio.sleep(LOOK_SECONDS)
                self._fill()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._wake.wait()
        finally:
            await self._stop()

    # --- the batches
    async def _tend(self) -> None:
        now = self._now()
        if now - self._flushed >= FLUSH_SECONDS:
            self._flushed = now
            await self._flush()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            await self._look(now)
            await self._claim(now)
        self._end_dropped(now)
        for run in [run for run in self._runs.values() if run.over]:
            await self._give_back(run)
        for run in self._runs.values():
            if run.wants_rows:
                run.reader = asyncio.create_task(self._read(run))

    async def _look(self, now: float) -> None:
        """Keep the leases, and hear which batches were cancelled."""
        if not self._runs:
            return
        renew = any(now - run.renewed >= RENEW_SECONDS for run in self._runs.values())
        async with self.db.transaction() as tx:
            ours = await self._work.held(tx, list(self._runs))
            if renew:
                await self._work.renew(tx, list(ours), LEASE_SECONDS, self.clock.now())
        for token, run in self._runs.items():
            if token not in ours:
                self._log.warning("batch_lease_lost", batch=run.id)
                run.lost = True
                run.close(now)
            elif ours[token] is not BatchStatus.IN_PROGRESS or run.batch.expires_at <= self.clock.now():
                run.close(now + GRACE_SECONDS)
            if renew and token in ours:
                run.renewed = now

    async def _claim(self, now: float) -> None:
        free = self._most_runs - len(self._runs)
        if free <= 0:
            oldest = min(self._runs.values(), key=lambda run: run.began)
            if now - oldest.began >= TURN_SECONDS:
                oldest.close(float("inf"))
            return
        async with self.db.transaction() as tx:
            claimed = await self._work.claim_runs(tx, free, self._a_project, LEASE_SECONDS, self.clock.now())
            for one in claimed:
                if one.batch.reason.code != ReasonCode.RUNNING:
                    await self._work.write(tx, one, status_reason=because(ReasonCode.RUNNING).to_json())
        for one in claimed:
            run = self._runs[one.lease_token] = Run(one.batch, one.lease_token, now)
            self._turns.add(run.project, run)

    async def _give_back(self, run: Run) -> None:
        """The reconciler, or another runner, goes on from here."""
        now = self.clock.now()
        values: dict[str, object] = {"due_at": now}
        if run.input_gone:
            values["errors"] = input_gone()
        elif run.trouble:
            values = {
                "due_at": now + timedelta(seconds=RETRY_SECONDS),
                "status_reason": because(ReasonCode.RETRYING, run.trouble).to_json(),
            }
        async with self.db.transaction() as tx:
            await self._work.give_back(tx, run.id, run.lease_token, **values)
            await notify(tx, WORK, KIND)
        self._forget(run)

    def _forget(self, run: Run) -> None:
        del self._runs[run.lease_token]
        self._turns.remove(run.project, run)
        if not self._runs or len(self._paces) > _MOST_MODELS:
            self._paces = {model: pace for model, pace in self._paces.items() if pace.under_way}
        self._looked = float("-inf")
        self._wake.set()

    async def _read(self, run: Run) -> None:
        batch = run.batch
        try:
            if run.lines is None:
                async with self.db.reading() as tx:
                    run.known = await self.batches.store.answered_lines(tx, batch.project, batch.id)
                run.lines = self.batches.files.lines(batch.project, FileId(batch.input_file))
            await run.read_ahead()
        except UnknownFile:
            run.input_gone = True
        except (SkerryError, OSError) as error:
            self._log.warning("batch_input_unreadable", batch=run.id, reason=str(error))
            run.trouble = error.detail if isinstance(error, SkerryError) else "Its input file could not be read."
            run.close(float("inf"))
        finally:
            run.reader = None
            self._wake.set()

    async def _flush(self) -> None:
        """Results into the database."""
        for run in list(self._runs.values()):
            while run.results:
                part = run.results[:_FLUSH_ROWS]
                async with self.db.transaction() as tx:
                    kept = await self.batches.store.add_results(
                        tx, run.project, run.id, run.lease_token, part, self.clock.now()
                    )
                del run.results[: len(part)]
                if not kept:
                    self._log.warning("batch_results_late", batch=run.id, rows=len(part))

    # --- the rows
    def _fill(self) -> None:
        """Send as many rows as may be under way."""
        now = self._now()
        unsaved = sum(len(run.results) for run in self._runs.values())
        while self._under_way < self._most_rows and unsaved + self._under_way < MOST_UNSAVED:
            picked = self._turns.pick(lambda run: self._take(run, now))
            if picked is None:
                return
            run, waiting = picked
            self._under_way += 1
            self._pace(waiting.row.model).began()
            task = asyncio.create_task(self._send(run, waiting))
            run.tasks.add(task)
            task.add_done_callback(partial(self._ended, run=run, waiting=waiting))

    def _take(self, run: Run, now: float) -> Waiting | None:
        if now - run.renewed > TRUSTED_SECONDS:
            return None
        return run.take(now, lambda model: self._pace(model).open(now))

    async def _send(self, run: Run, waiting: Waiting) -> None:
        batch, row, begun = run.batch, waiting.row, self._now()
        pace = self._pace(row.model)
        try:
            answer = await self._sender.send(batch.endpoint.value, self._ticket(batch, row), row.body)
        except GatewayAway as away:
            outcome = self._not_answered(run, waiting, pace, away)
        else:
            outcome = self._answered(run, waiting, pace, answer)
        self._observe(ROWS, outcome, self._now() - begun)

    def _ended(self, task: asyncio.Task[None], run: Run, waiting: Waiting) -> None:
        run.tasks.discard(task)
        self._under_way -= 1
        self._pace(waiting.row.model).ended()
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("batch_row_failed", batch=run.id, line=waiting.row.line, exc_info=error)
            self._fault(run, waiting, None)

    def _answered(self, run: Run, waiting: Waiting, pace: Pace, answer: Answer) -> str:
        alone = sum(len(other.tasks) for other in self._runs.values() if other.project == run.project) <= 1
        verdict = rules.judge(answer, alone=alone)
        if verdict is Verdict.BUSY:
            pace.refused(self._now(), answer.after)
            run.put_back(waiting)
            return "busy"
        if verdict is Verdict.FAULT:
            return self._fault(run, waiting, rules.answered(run.batch, waiting.row, answer))
        pace.answered(waited=answer.waited)
        result = rules.answered(run.batch, waiting.row, answer)
        run.results.append(result)
        return _OUTCOMES[result.ok]

    def _not_answered(self, run: Run, waiting: Waiting, pace: Pace, away: GatewayAway) -> str:
        pace.refused(self._now(), None)
        if away.begun:
            return self._fault(run, waiting, None)
        run.put_back(waiting)
        return "unreachable"

    def _fault(self, run: Run, waiting: Waiting, last: Result | None) -> str:
        """It broke something. `last`: what to tell of it if this was once too often."""
        waiting.faults += 1
        row = waiting.row
        if waiting.faults >= rules.MAX_FAULTS:
            words = f"The connection broke {waiting.faults} times while this request was being answered."
            given_up = rules.failed(run.batch, row.line, row.custom_id, RowErrorCode.UNREACHABLE, words)
            run.results.append(last or given_up)
            return "given_up"
        pause = rules.fault_pause(waiting.faults) * self._jitter.uniform(0.8, 1.2)
        waiting.not_before = self._now() + pause
        run.put_back(waiting)
        return "fault"

    def _ticket(self, batch: Batch, row: Row) -> str:
        id = rules.record_id(batch.id, batch.created_at, row.line)
        expires = int(self.clock.now().timestamp()) + TICKET_SECONDS
        return self._tickets.sign(BatchTicket(batch.key, batch.project, batch.id, row.line, id.bytes, expires))

    def _pace(self, model: str) -> Pace:
        return self._paces.setdefault(model, Pace(self._most_rows))

    # --- the end
    def _end_dropped(self, now: float) -> None:
        """Rows of closed batches that have had their time."""
        for run in self._runs.values():
            if run.close_by is not None and run.close_by <= now:
                for task in run.tasks:
                    task.cancel()

    def _pause(self) -> float:
        if any(run.results for run in self._runs.values()):
            return FLUSH_SECONDS
        return LOOK_SECONDS if self._runs else IDLE_SECONDS

    async def _stop(self) -> None:
        jobs = [task for run in self._runs.values() for task in (*run.tasks, run.reader) if task is not None]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        self._sender.close()
        with suppress(Unavailable):
            await self._flush()
            for run in list(self._runs.values()):
                await self._give_back(run)
