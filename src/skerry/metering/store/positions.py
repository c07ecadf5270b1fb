"""How far each journal has been taken in."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.db.database import Tx
from skerry.metering.tables import journal_positions
from skerry.runtime.journal.reader import Position


@dataclass(frozen=True, slots=True)
class JournalState:
    position: Position
    watermark: datetime | None


class PositionStore:
    async def lock(self, tx: Tx, journal: str, now: datetime) -> JournalState:
        """The state of a journal, held until the transaction ends. A journal never seen begins at its beginning."""
        start = Position()
        await tx.execute(
            upsert(journal_positions)
            .values(journal=journal, segment=start.segment, byte_offset=start.offset, updated_at=now)
            .on_conflict_do_nothing()
        )
        row = (
            await tx.execute(select(journal_positions).where(journal_positions.c.journal == journal).with_for_update())
        ).one()
        return JournalState(Position(row.segment, row.byte_offset), row.watermark)

    async def get(self, tx: Tx, journal: str) -> JournalState:
        row = (await tx.execute(select(journal_positions).where(journal_positions.c.journal == journal))).one_or_none()
        if row is None:
            return JournalState(Position(), None)
        return JournalState(Position(row.segment, row.byte_offset), row.watermark)

    async def advance(self, tx: Tx, journal: str, state: JournalState, now: datetime) -> None:
        await tx.execute(
            update(journal_positions)
            .where(journal_positions.c.journal == journal)
            .values(
                segment=state.position.segment,
                byte_offset=state.position.offset,
                watermark=state.watermark,
                updated_at=now,
            )
        )
