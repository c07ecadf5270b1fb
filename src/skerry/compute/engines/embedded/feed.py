"""Which attempts changed lately, for callers that wait instead of asking all the time."""

import asyncio
import secrets
from collections import deque
from typing import Final

from skerry.compute.engines.base import EventBatch
from skerry.kernel.ids import AttemptId

_KEPT: Final = 4096


class ChangeFeed:
    """A cursor is `EPOCH.NUMBER`. Another epoch (the agent was restarted) or a number long past means: look at all."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)
        self._last = 0
        self._changes: deque[tuple[int, AttemptId]] = deque(maxlen=_KEPT)
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def publish(self, attempt: AttemptId) -> None:
        self._last += 1
        self._changes.append((self._last, attempt))
        task = asyncio.get_running_loop().create_task(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self, cursor: str, seconds: float) -> EventBatch:
        epoch, _, number = cursor.partition(".")
        if not cursor:
            return EventBatch(self._cursor(), ())
        if epoch != self._epoch or not number.isdigit() or int(number) < self._oldest() - 1:
            return EventBatch(self._cursor(), (), reset=True)
        after = int(number)
        async with self._changed:
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait_for(lambda: self._last > after)
            except TimeoutError:
                return EventBatch(cursor, ())
        changed = dict.fromkeys(attempt for at, attempt in self._changes if at > after)
        return EventBatch(self._cursor(), tuple(changed))

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _oldest(self) -> int:
        return self._changes[0][0] if self._changes else self._last + 1

    def _cursor(self) -> str:
        return f"{self._epoch}.{self._last}"
