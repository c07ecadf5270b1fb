"""Writes down that holds have lapsed. Nobody waits for it: their nodes were free the moment their time was over."""

from typing import Final, Protocol

from skerry.db.database import Database, Tx

A_PASS: Final = 100
SECONDS: Final = 2.0
"""Between looks."""


class Holds(Protocol):
    """What is needed of reservations."""

    async def expire_due(self, tx: Tx, limit: int) -> int:
        """Write down up to so many that have lapsed; returns how many it were."""
        ...


class HoldSweeper:
    """Several may run at once: each passes over what another is at."""

    def __init__(self, db: Database, holds: Holds) -> None:
        self._db = db
        self._holds = holds

    async def look(self) -> int:
        """All that have lapsed by now, a transaction for every `A_PASS` of them; returns how many it were."""
        swept = 0
        while True:
            async with self._db.transaction() as tx:
                found = await self._holds.expire_due(tx, A_PASS)
            swept += found
            if found < A_PASS:
                return swept
