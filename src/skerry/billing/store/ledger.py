"""Periods and leases. Whoever changes some locks their periods first, in order: so nothing dead-locks.

The ledger acts for all projects at once: it is reached through accounts, and these belong to projects.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, insert, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.billing.model import Balance, Lease, LeaseState, Period
from skerry.billing.store.accounts import shares_from_json, shares_to_json
from skerry.billing.tables import balance_leases, balance_periods
from skerry.db.database import Tx

PeriodKey = tuple[str, datetime]
"""Account and start of the period."""

_p, _l = balance_periods.c, balance_leases.c
_OPEN = _l.state == LeaseState.OPEN.value


class LedgerStore:
    async def open_period(self, tx: Tx, account: str, balance: Balance) -> Balance:
        """Lock the period of an account; where it is new, it begins with `balance`."""
        key = (account, balance.period.start)
        await self.open_periods(tx, {key: balance})
        return (await self.lock_periods(tx, [key]))[key]

    async def open_periods(self, tx: Tx, balances: Mapping[PeriodKey, Balance]) -> None:
        """Where periods are new, they begin with these balances. It locks those that it makes."""
        rows = [
            {
                "account": account,
                "period_start": start,
                "period_end": balances[account, start].period.end,
                "committed_nano": balances[account, start].committed_nano,
                "spent_nano": balances[account, start].spent_nano,
                "alerts_sent": shares_to_json(balances[account, start].alerts_sent),
            }
            for account, start in sorted(balances)
        ]
        if rows:
            await tx.execute(upsert(balance_periods).on_conflict_do_nothing(), rows)

    async def lock_periods(self, tx: Tx, keys: Collection[PeriodKey]) -> dict[PeriodKey, Balance]:
        wanted = select(balance_periods).where(tuple_(_p.account, _p.period_start).in_(keys))
        rows = await tx.execute(wanted.order_by(_p.account, _p.period_start).with_for_update())
        return {(row.account, row.period_start): _balance(row) for row in rows}

    async def balances(self, tx: Tx, keys: Collection[PeriodKey]) -> dict[PeriodKey, Balance]:
        """Those that exist; an account nobody asked for anything in a period has none."""
        rows = await tx.execute(select(balance_periods).where(tuple_(_p.account, _p.period_start).in_(keys)))
        return {(row.account, row.period_start): _balance(row) for row in rows}

    async def save_balance(self, tx: Tx, key: PeriodKey, balance: Balance) -> None:
        await tx.execute(
            update(balance_periods)
            .where(_p.account == key[0], _p.period_start == key[1])
            .values(
                committed_nano=balance.committed_nano,
                spent_nano=balance.spent_nano,
                alerts_sent=shares_to_json(balance.alerts_sent),
            )
        )

    async def save_balances(self, tx: Tx, balances: Mapping[PeriodKey, Balance]) -> None:
        """What is committed alone: spending is `save_balance`'s."""
        if not balances:
            return
        change = (
            update(balance_periods)
            .where(_p.account == bindparam("its_account"), _p.period_start == bindparam("its_start"))
            .values(committed_nano=bindparam("committed"))
        )
        rows = [
            {"its_account": account, "its_start": start, "committed": balance.committed_nano}
            for (account, start), balance in balances.items()
        ]
        await tx.execute(change, rows)

    async def insert_lease(self, tx: Tx, lease: Lease, now: datetime) -> None:
        await self.insert_leases(tx, [lease], now)

    async def insert_leases(self, tx: Tx, leases: Sequence[Lease], now: datetime) -> None:
        if leases:
            await tx.execute(insert(balance_leases), [_lease_values(lease, now) for lease in leases])

    async def of_journal(self, tx: Tx, journal: str) -> list[Lease]:
        """All its leases, the closed ones included."""
        wanted = select(balance_leases).where(_l.journal == journal)
        return [_lease(row) for row in await tx.execute(wanted.order_by(_l.account, _l.period_start))]

    async def periods_of(self, tx: Tx, leases: Collection[str]) -> set[PeriodKey]:
        return await self._periods(tx, _l.id.in_(leases))

    async def periods_to_close(self, tx: Tx, journal: str, watermark: datetime) -> set[PeriodKey]:
        return await self._periods(tx, _to_close(journal, watermark))

    async def lock_leases(self, tx: Tx, ids: Collection[str]) -> list[Lease]:
        return await self._lock(tx, _l.id.in_(ids))

    async def lock_leases_to_close(self, tx: Tx, journal: str, watermark: datetime) -> list[Lease]:
        return await self._lock(tx, _to_close(journal, watermark))

    async def open_leases(self, tx: Tx, account: str) -> list[Lease]:
        rows = await tx.execute(select(balance_leases).where(_l.account == account, _OPEN).order_by(_l.id))
        return [_lease(row) for row in rows]

    async def save_leases(self, tx: Tx, leases: Sequence[Lease], closed_at: datetime | None = None) -> None:
        if not leases:
            return
        change = (
            update(balance_leases)
            .where(_l.id == bindparam("lease"))
            .values(
                amount_nano=bindparam("amount"),
                spent_nano=bindparam("spent"),
                state=bindparam("now"),
                expires_at=bindparam("end"),
            )
        )
        if closed_at is not None:
            change = change.values(closed_at=closed_at)
        await tx.execute(change, [_changes(lease) for lease in leases])

    async def forget_leases(self, tx: Tx, before: datetime, limit: int) -> int:
        old = select(_l.id).where(_l.closed_at < before, _l.state != LeaseState.OPEN.value).limit(limit)
        return (await tx.execute(delete(balance_leases).where(_l.id.in_(old)))).rowcount

    async def _periods(self, tx: Tx, which: ColumnElement[bool]) -> set[PeriodKey]:
        rows = await tx.execute(select(_l.account, _l.period_start).where(which).distinct())
        return {(row.account, row.period_start) for row in rows}

    async def _lock(self, tx: Tx, which: ColumnElement[bool]) -> list[Lease]:
        rows = await tx.execute(select(balance_leases).where(which).order_by(_l.id).with_for_update())
        return [_lease(row) for row in rows]


def by_period(leases: Iterable[Lease]) -> dict[PeriodKey, list[Lease]]:
    found: dict[PeriodKey, list[Lease]] = {}
    for lease in leases:
        found.setdefault((lease.account, lease.period_start), []).append(lease)
    return found


def _to_close(journal: str, watermark: datetime) -> ColumnElement[bool]:
    return and_(_l.journal == journal, _l.expires_at <= watermark, _OPEN)


def _changes(lease: Lease) -> dict[str, object]:
    return {
        "lease": lease.id,
        "amount": lease.amount_nano,
        "spent": lease.spent_nano,
        "now": lease.state.value,
        "end": lease.expires_at,
    }


def _lease_values(lease: Lease, now: datetime) -> dict[str, object]:
    return {
        "id": lease.id,
        "account": lease.account,
        "period_start": lease.period_start,
        "journal": lease.journal,
        "amount_nano": lease.amount_nano,
        "spent_nano": lease.spent_nano,
        "state": lease.state.value,
        "created_at": now,
        "expires_at": lease.expires_at,
    }


def _balance(row: Row[Any]) -> Balance:
    period = Period(row.period_start, row.period_end)
    return Balance(period, row.committed_nano, row.spent_nano, shares_from_json(row.alerts_sent))


def _lease(row: Row[Any]) -> Lease:
    return Lease(
        id=row.id,
        account=row.account,
        period_start=row.period_start,
        journal=row.journal,
        amount_nano=row.amount_nano,
        spent_nano=row.spent_nano,
        state=LeaseState(row.state),
        expires_at=row.expires_at,
    )
