"""Level-triggered work on rows: claim with a token, step outside the transaction, apply guarded by the token."""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Generic, Protocol, TypeVar

import structlog

from skerry.db.errors import DatabaseUnavailable

R = TypeVar("R")
C = TypeVar("C")

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_BACK_OFF_FIRST, _BACK_OFF_LONGEST = 0.5, 300.0

Observe = Callable[[str, str, float], None]
"""Called after each row with the reconciler's kind, the outcome (`applied`, `unchanged`, `failed`), and seconds."""


class Reconciler(Protocol[R, C]):
    """One kind of resource. `skerry.db.claim` has what it takes to lease rows.

    A row may be claimed again, by another process too, when its lease ends: steps must be safe to repeat.
    """

    kind: str

    async def claim(self, limit: int) -> Sequence[R]:
        """Lease up to `limit` rows that want work now, in a transaction of its own."""
        ...

    async def step(self, row: R) -> C | None:
        """Look at the world and do one thing, outside any transaction. None: nothing is to change."""
        ...

    async def apply(self, row: R, change: C | None) -> bool:
        """Write the change and give the lease back, guarded by the row's token. Called for None too, since the lease
        must go back. True: something changed, so look again at once; False: nothing did, or the lease was lost."""
        ...

    async def failed(self, row: R, error: Exception) -> None:
        """The step or its apply raised: store when to try again (`back_off_seconds`) and give the lease back."""
        ...


class Loop(Generic[R, C]):
    """Runs one reconciler until it is cancelled, whatever a row or the database does.

    It looks when `wake` is set, when a row has changed, and every `poll_seconds`.
    """

    def __init__(
        self,
        reconciler: Reconciler[R, C],
        *,
        wake: asyncio.Event | None = None,
        poll_seconds: float = 5.0,
        concurrency: int = 8,
        observe: Observe = lambda kind, outcome, seconds: None,
    ) -> None:
        self.reconciler = reconciler
        self._wake = wake or asyncio.Event()
        self._poll_seconds = poll_seconds
        self._concurrency = concurrency
        self._observe = observe
        self._log = structlog.get_logger("skerry.runtime.reconciler").bind(kind=reconciler.kind)

    async def run(self) -> None:
        working: set[asyncio.Task[None]] = set()
        wait = _FIRST_WAIT
        try:
            while True:
                # Cleared before looking: what happens during the look sets it again.
                self._wake.clear()
                free = self._concurrency - len(working)
                try:
                    rows = await self.reconciler.claim(free)
                except Exception as error:
                    self._log_failure("claim_failed", error)
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, _LONGEST_WAIT)
                    continue
                wait = _FIRST_WAIT
                for row in rows:
                    task = asyncio.create_task(self._work(row))
                    working.add(task)
                    task.add_done_callback(working.discard)
                await self._until_there_is_work(working, full=len(rows) >= free)
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def _until_there_is_work(self, working: set[asyncio.Task[None]], *, full: bool) -> None:
        if full:
            # There may be more rows than places: look again as soon as a place is free.
            if len(working) >= self._concurrency:
                await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            return
        try:
            async with asyncio.timeout(self._poll_seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        if len(working) >= self._concurrency:
            await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)

    async def _work(self, row: R) -> None:
        begun = monotonic()
        try:
            change = await self.reconciler.step(row)
            changed = await self.reconciler.apply(row, change)
        except Exception as error:
            self._log_failure("step_failed", error)
            self._observe(self.reconciler.kind, "failed", monotonic() - begun)
            await self._record_failure(row, error)
            return
        self._observe(self.reconciler.kind, "applied" if changed else "unchanged", monotonic() - begun)
        if changed:
            self._wake.set()

    async def _record_failure(self, row: R, error: Exception) -> None:
        try:
            await self.reconciler.failed(row, error)
        except Exception as second:
            # The lease ends by itself, and then the row is claimed again.
            self._log_failure("failure_not_recorded", second)

    def _log_failure(self, event: str, error: Exception) -> None:
        if isinstance(error, DatabaseUnavailable):
            self._log.warning(event, error="database_unavailable")
        else:
            self._log.error(event, exc_info=error)


class Wakes:
    """One event for each kind of reconciler, set by NOTIFY `skerry_work` with the kind as payload.

    Wire it as `Listener(url, [WORK], wakes.notified, wakes.wake_all)`.
    """

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def event(self, kind: str) -> asyncio.Event:
        return self._events.setdefault(kind, asyncio.Event())

    def notified(self, channel: str, payload: str) -> None:
        if payload in self._events:
            self._events[payload].set()

    def wake_all(self) -> None:
        for event in self._events.values():
            event.set()


def back_off_seconds(failures: int, longest: float = _BACK_OFF_LONGEST) -> float:
    """How long to wait after the `failures`-th failure in a row: 0.5 s, then twice as long each time."""
    return min(_BACK_OFF_FIRST * 2.0 ** min(max(failures - 1, 0), 32), longest)
