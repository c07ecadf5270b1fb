"""The outbox: a message put in a transaction is delivered at least once if the transaction commits, else never."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, and_, delete, insert, select, update

from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Database, Tx
from skerry.db.notify import WORK, notify
from skerry.kernel.clock import Clock
from skerry.kernel.errors import NotFound
from skerry.kernel.ids import new_id
from skerry.runtime.reconciler import back_off_seconds
from skerry.runtime.tables import outbox

KIND: Final = "outbox"
_ERROR_MAX = 500


@dataclass(frozen=True, slots=True)
class Message:
    """`id` stays the same over all attempts: a receiver that must not act twice remembers it."""

    id: str
    topic: str
    payload: Any
    created_at: datetime
    attempts: int
    lease_token: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that is not tried any more, and why."""

    message: Message
    dead_at: datetime
    reason: str


Handler = Callable[[Message], Awaitable[None]]


class Outbox:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def put(self, tx: Tx, topic: str, payload: Any) -> str:
        """Send `payload` (JSON) to the handler of `topic` once this transaction has committed; returns its id."""
        now = self.clock.now()
        id = new_id("msg")
        await tx.execute(insert(outbox).values(id=id, topic=topic, payload=payload, created_at=now, due_at=now))
        await notify(tx, WORK, KIND)
        return id

    async def dead_letters(self, tx: Tx, limit: int = 100) -> list[DeadLetter]:
        query = select(outbox).where(outbox.c.dead_at.is_not(None)).order_by(outbox.c.dead_at, outbox.c.id)
        rows = await tx.execute(query.limit(limit))
        return [DeadLetter(_message(row), row.dead_at, row.last_error) for row in rows]

    async def revive(self, tx: Tx, id: str) -> None:
        """Try a dead message again from the start. Raises NotFound."""
        values = {"dead_at": None, "attempts": 0, "due_at": self.clock.now()}
        done = await tx.execute(update(outbox).where(outbox.c.id == id, outbox.c.dead_at.is_not(None)).values(values))
        if done.rowcount != 1:
            raise NotFound(f"There is no dead message {id}.")
        await notify(tx, WORK, KIND)


class Dispatcher:
    """Delivers messages; run it with `Loop(dispatcher, wake=wakes.event("outbox"))`.

    A handler that raises is called again with growing pauses, `max_attempts` times in all; then the message is dead,
    with the last error as its reason. A handler may be called twice for one message, and messages may overtake one
    another. Only topics that have a handler here are claimed.
    """

    kind = KIND

    def __init__(
        self,
        database: Database,
        clock: Clock,
        handlers: Mapping[str, Handler],
        *,
        max_attempts: int = 20,
        lease_seconds: float = 30.0,
    ) -> None:
        self._database = database
        self._clock = clock
        self._handlers = dict(handlers)
        self._max_attempts = max_attempts
        self._lease_seconds = lease_seconds

    async def claim(self, limit: int) -> Sequence[Message]:
        now = self._clock.now()
        async with self._database.transaction() as tx:
            rows = await claim_rows(
                tx,
                outbox,
                where=and_(outbox.c.topic.in_(self._handlers), outbox.c.dead_at.is_(None), outbox.c.due_at <= now),
                order_by=[outbox.c.due_at, outbox.c.id],
                limit=limit,
                lease_seconds=self._lease_seconds,
                now=now,
            )
        return [_message(row) for row in rows]

    async def step(self, row: Message) -> None:
        await self._handlers[row.topic](row)

    async def apply(self, row: Message, change: None) -> bool:
        # Without the token: delivered is delivered, whoever holds the message by now.
        async with self._database.transaction() as tx:
            done = await tx.execute(delete(outbox).where(outbox.c.id == row.id))
        return done.rowcount == 1

    async def failed(self, row: Message, error: Exception) -> None:
        now, attempts = self._clock.now(), row.attempts + 1
        values: dict[str, Any] = {
            "attempts": attempts,
            "last_error": f"{type(error).__name__}: {error}"[:_ERROR_MAX],
            "due_at": now + timedelta(seconds=back_off_seconds(attempts)),
        }
        if attempts >= self._max_attempts:
            values["dead_at"] = now
        async with self._database.transaction() as tx:
            await guarded_update(tx, outbox, row.id, row.lease_token, values)


def _message(row: Row[Any]) -> Message:
    return Message(row.id, row.topic, row.payload, row.created_at, row.attempts, row.lease_token or "")
