"""What is asked for at about the same time, done together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST: Final = 64
LOTS: Final = 4
PATIENCE_SECONDS: Final = 0.05


class Together(Generic[T, R]):
    """Does the work of many callers in lots: the first comes at once, what is asked meanwhile is the next lot.

    So nobody waits for a timer, and the more callers there are, the more share a lot. One that takes long, for a lock
    that somebody else has, holds up the next for `patience` seconds only. Whoever is cancelled before its lot begins is
    left out; afterwards its work is done all the same.

    `work` answers each item of a lot, in order, with a result or an exception. What it raises is raised for all.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        most: int = MOST,
        lots: int = LOTS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._work, self._most, self._lots, self._patience = work, most, lots, patience
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._slow: set[asyncio.Task[None]] = set()
        """Of those that run."""

    async def do(self, item: T) -> R:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, answer))
        # Not now: others may ask within the same turn of the loop.
        loop.call_soon(self._begin)
        return await answer

    def _begin(self) -> None:
        """The next lot, where none is under way that can be waited for."""
        if len(self._running) > len(self._slow) or len(self._running) >= self._lots:
            return
        lot: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(lot) < self._most:
            item, answer = self._waiting.popleft()
            if not answer.done():
                lot.append((item, answer))
        if lot:
            task = asyncio.create_task(self._do(lot))
            self._running.add(task)
            late = asyncio.get_running_loop().call_later(self._patience, self._late, task)
            task.add_done_callback(lambda done: self._ended(done, late))

    def _late(self, task: asyncio.Task[None]) -> None:
        self._slow.add(task)
        self._begin()

    def _ended(self, task: asyncio.Task[None], late: asyncio.TimerHandle) -> None:
        late.cancel()
        self._running.discard(task)
        self._slow.discard(task)
        self._begin()

    async def _do(self, lot: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._work([item for item, _ in lot])
        except asyncio.CancelledError:
            for _, waiting in lot:
                waiting.cancel()
            raise
        except Exception as error:
            answers = [error] * len(lot)
        for (_, waiting), answer in zip(lot, answers, strict=True):
            if waiting.done():
                continue
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)
