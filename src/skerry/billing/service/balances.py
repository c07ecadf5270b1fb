"""The ledger that gateways draw on: leases out, settlements in, rests back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

import structlog

from skerry.billing.errors import LeaseStillLive, UnknownLease
from skerry.billing.model import (
    Account,
    AccountKind,
    AccountSnapshot,
    Balance,
    BudgetWindow,
    Grant,
    Lease,
    LeaseState,
    RefusalReason,
    Refused,
    Target,
    TargetKind,
)
from skerry.billing.rules import balances as rules
from skerry.billing.store.accounts import AccountStore
from skerry.billing.store.ledger import LedgerStore, PeriodKey, by_period
from skerry.db.database import Tx
from skerry.kernel.clock import Clock
from skerry.kernel.ids import IdFactory, KeyId, OrganizationId, ProjectId, new_id
from skerry.kernel.money import decimal_from_nano, nano_from_decimal, plain
from skerry.runtime.events import EventLog

CREDIT_LIMIT = Decimal("1000.00")
BOOTSTRAP = "bootstrap"
KEPT = timedelta(days=40)
"""How long closed leases stay: longer than metering takes facts that could still be booked on them."""
FORGOTTEN_A_PASS = 50_000


class Homes(Protocol):
    """Who knows the project in whose timeline an organization's news are written (identity)."""

    async def home_project(self, tx: Tx, organization: OrganizationId) -> ProjectId | None: ...


class Currency(Protocol):
    """Who knows the currency of the prices, in which balances are kept."""

    async def currency(self, tx: Tx) -> str: ...


class Balances:
    """Reserve → settle → release, for all limits alike: keys', projects', organizations'.

    Of a period always holds: what is committed equals what open leases hold plus what closed ones spent
    (`rules.counted`), and it exceeds the limit only by what leases spent beyond their amounts, or where the limit was
    lowered.
    """

    def __init__(
        self,
        clock: Clock,
        events: EventLog,
        currency: Currency,
        *,
        homes: Homes | None = None,
        credit_limit: Decimal = CREDIT_LIMIT,
        ids: IdFactory = new_id,
    ) -> None:
        self.clock = clock
        self.events = events
        self.currency = currency
        self.homes = homes
        self.credit_limit = credit_limit
        self.ids = ids
        self._accounts = AccountStore()
        self._ledger = LedgerStore()
        self._log = structlog.get_logger("skerry.billing")

    async def accounts(self, tx: Tx) -> AccountSnapshot:
        """All accounts there are, for gateways. `skerry_budgets` says that they changed."""
        found: dict[TargetKind, dict[str, tuple[Account, ...]]] = {kind: {} for kind in TargetKind}
        for account in await self._accounts.live(tx):
            own = found[account.target.kind]
            own[account.target.id] = (*own.get(account.target.id, ()), account)
        return AccountSnapshot(
            by_key={KeyId(id): own for id, own in found[TargetKind.KEY].items()},
            by_project={ProjectId(id): own for id, own in found[TargetKind.PROJECT].items()},
            by_organization={OrganizationId(id): own for id, own in found[TargetKind.ORGANIZATION].items()},
        )

    async def accounts_for(
        self, tx: Tx, organization: OrganizationId, project: ProjectId, key: KeyId
    ) -> tuple[Account, ...]:
        """The accounts that bear a key's requests: always its organization's credit limit, made where it is missing."""
        found = await self._accounts.bearing(tx, organization, project, key)
        if not any(account.kind is AccountKind.CREDIT_LIMIT for account in found):
            await self.ensure_credit_limit(tx, organization)
            found = await self._accounts.bearing(tx, organization, project, key)
        return tuple(found)

    async def ensure_credit_limit(self, tx: Tx, organization: OrganizationId) -> None:
        """Give an organization the default credit a month, unless it has a credit limit."""
        account = Account(
            id=self.ids("bud"),
            kind=AccountKind.CREDIT_LIMIT,
            target=Target(TargetKind.ORGANIZATION, organization),
            project=None,
            organization=organization,
            window=BudgetWindow.MONTH,
            limit_nano=nano_from_decimal(self.credit_limit),
            currency=await self.currency.currency(tx),
            alert_at=(),
            created_at=self.clock.now(),
        )
        await self._accounts.insert_single(tx, account, BOOTSTRAP)

    async def acquire_lease(
        self,
        tx: Tx,
        account_id: str,
        journal: str,
        minimum_nano: int,
        wanted_nano: int,
        ttl: timedelta,
        grow: str | None = None,
    ) -> Grant | Refused:
        """Set a part of an account's balance aside for the gateway that writes `journal`.

        At least `minimum_nano`, at most `wanted_nano`, less as the balance ends. It is good for `ttl`, but not beyond
        the account's period. `grow` names an open lease of the same gateway to add to instead; its end stays.
        """
        account = await self._accounts.find(tx, account_id)
        if account is None:
            return Refused(RefusalReason.NO_SUCH_ACCOUNT, account_id)
        now = self.clock.now()
        period = rules.period_of(account.window, now)
        key = (account.id, period.start)
        balance = await self._ledger.open_period(tx, account.id, Balance(period))
        amount = rules.grant(account, balance, minimum_nano, wanted_nano)
        if amount is None:
            return _refused(account, balance)
        await self._ledger.save_balance(tx, key, replace(balance, committed_nano=balance.committed_nano + amount))
        lease = await self._growing(tx, key, journal, grow, now)
        if lease is not None:
            await self._ledger.save_leases(tx, [replace(lease, amount_nano=lease.amount_nano + amount)])
        else:
            end = min(now + ttl, period.end)
            lease = Lease(self.ids("lease"), account.id, period.start, journal, amount, 0, LeaseState.OPEN, end)
            await self._ledger.insert_lease(tx, lease, now)
        return Grant(lease.id, amount, lease.expires_at, (lease.expires_at - now).total_seconds())

    async def settle(self, tx: Tx, spent: Mapping[str, int]) -> None:
        """Book what leases have paid for. Not repeatable: the journal's position says what was booked.

        A lease that spent more than it had, or that was closed before, still bears all of it.
        """
        keys = await self._ledger.periods_of(tx, spent)
        balances = await self._ledger.lock_periods(tx, keys)
        leases = await self._ledger.lock_leases(tx, spent)
        settled = [replace(lease, spent_nano=lease.spent_nano + spent[lease.id]) for lease in leases]
        await self._ledger.save_leases(tx, settled)
        accounts = await self._accounts.find_many(tx, sorted({account for account, _ in keys}))
        before = by_period(leases)
        for key, after in by_period(settled).items():
            balance = _moved(balances[key], before[key], after)
            due = rules.alerts_due(accounts[key[0]], balance)
            await self._ledger.save_balance(tx, key, replace(balance, alerts_sent=(*balance.alerts_sent, *due)))
            for share in due:
                await self._alert(tx, accounts[key[0]], balance, share)
        if unknown := spent.keys() - {lease.id for lease in leases}:
            self._log.error("unknown_leases", leases=sorted(unknown), nano=sum(spent[id] for id in unknown))

    async def close_leases(self, tx: Tx, journal: str, watermark: datetime) -> None:
        """Take back the rests of a journal's leases that ended by `watermark`: all they paid for is booked."""
        keys = await self._ledger.periods_to_close(tx, journal, watermark)
        if not keys:
            return
        balances = await self._ledger.lock_periods(tx, keys)
        leases = await self._ledger.lock_leases_to_close(tx, journal, watermark)
        await self._end(tx, leases, LeaseState.CLOSED, balances)

    async def release_lease(self, tx: Tx, account: Account, lease_id: str) -> None:
        """Give the rest of a lease back although its gateway's journal did not come (operator). What that journal still
        brings is booked all the same. Raises UnknownLease, LeaseStillLive.
        """
        balances = await self._ledger.lock_periods(tx, await self._ledger.periods_of(tx, [lease_id]))
        found = await self._ledger.lock_leases(tx, [lease_id])
        if not found or found[0].account != account.id:
            raise UnknownLease(f"there is no lease {lease_id} on {account.id}")
        if found[0].state is not LeaseState.OPEN:
            return
        if found[0].expires_at > self.clock.now():
            raise LeaseStillLive(
                f"lease {lease_id} is good until {found[0].expires_at.isoformat()}: a gateway may be spending it",
                suggestion="Release it after its end.",
            )
        await self._end(tx, found, LeaseState.RELEASED, balances)

    async def open_leases(self, tx: Tx, account: Account) -> list[Lease]:
        """What is pending on an account, oldest first."""
        return await self._ledger.open_leases(tx, account.id)

    async def keep_house(self, tx: Tx) -> int:
        """Forget leases that were closed long ago; returns how many went."""
        return await self._ledger.forget_leases(tx, self.clock.now() - KEPT, FORGOTTEN_A_PASS)

    async def _growing(self, tx: Tx, key: PeriodKey, journal: str, grow: str | None, now: datetime) -> Lease | None:
        """The lease to add to, if it is one that can be."""
        for lease in await self._ledger.lock_leases(tx, [grow]) if grow else ():
            live = lease.state is LeaseState.OPEN and lease.expires_at > now
            if live and lease.journal == journal and (lease.account, lease.period_start) == key:
                return lease
        return None

    async def _end(self, tx: Tx, leases: list[Lease], state: LeaseState, balances: Mapping[PeriodKey, Balance]) -> None:
        ended = [replace(lease, state=state) for lease in leases]
        await self._ledger.save_leases(tx, ended, closed_at=self.clock.now())
        before = by_period(leases)
        for key, after in by_period(ended).items():
            await self._ledger.save_balance(tx, key, _moved(balances[key], before[key], after))

    async def _alert(self, tx: Tx, account: Account, balance: Balance, share: Decimal) -> None:
        data = {
            "share": float(share),
            "spent": plain(decimal_from_nano(balance.spent_nano)),
            "limit": plain(decimal_from_nano(account.limit_nano)),
            "currency": account.currency,
        }
        self._log.info("budget_alert", account=account.id, **data)
        project = account.project
        if project is None and account.organization is not None and self.homes is not None:
            project = await self.homes.home_project(tx, account.organization)
        if project is not None:
            await self.events.record(
                tx, project=project, resource=account.id, resource_kind="budget", type="budget.alert", data=data
            )


def _moved(balance: Balance, before: list[Lease], after: list[Lease]) -> Balance:
    """The balance after some of its leases have changed."""
    return replace(
        balance,
        committed_nano=balance.committed_nano + sum(map(rules.counted, after)) - sum(map(rules.counted, before)),
        spent_nano=balance.spent_nano + sum(x.spent_nano for x in after) - sum(x.spent_nano for x in before),
    )


def _refused(account: Account, balance: Balance) -> Refused:
    return Refused(
        RefusalReason.EXHAUSTED,
        account.id,
        account.kind,
        account.window,
        remaining_nano=max(0, account.limit_nano - balance.committed_nano),
        limit_nano=account.limit_nano,
        ends=balance.period.end,
    )
