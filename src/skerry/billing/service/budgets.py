"""Budgets: limits that people set, and what has become of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from skerry.billing.errors import CreditLimitIsOperators, NotABudget, UnknownBudget
from skerry.billing.model import (
    RATED_BY,
    Account,
    AccountKind,
    Balance,
    Budget,
    BudgetWindow,
    Lease,
    Period,
    Target,
    TargetKind,
    exact_sum,
)
from skerry.billing.rules import balances as rules
from skerry.billing.rules.budgets import checked_shares, limit_to_nano, nano_ceil
from skerry.billing.service.balances import Balances
from skerry.billing.service.price_books import PriceBooks
from skerry.billing.service.reserved import Reserved
from skerry.billing.store.accounts import AccountStore, shares_to_json
from skerry.billing.store.ledger import LedgerStore
from skerry.billing.store.prices import PriceStore
from skerry.db.database import Database, Tx
from skerry.db.notify import BUDGETS, notify
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock, floor_hour
from skerry.kernel.errors import FieldError, Invalid, Malformed
from skerry.kernel.ids import IdFactory, KeyId, OrganizationId, ProjectId, new_id
from skerry.kernel.money import Money, decimal_from_nano, plain
from skerry.kernel.paging import Page, PageRequest
from skerry.kernel.windows import Window
from skerry.metering.model import RESERVATION, UsageQuery
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog


class KeyBudgets:
    """`identity.BudgetSink`: the budget that an API key was given for its life."""

    def __init__(self, clock: Clock, ids: IdFactory = new_id) -> None:
        self.clock = clock
        self.ids = ids
        self._accounts = AccountStore()
        self._prices = PriceStore()

    async def set_key_budget(self, tx: Tx, project: ProjectId, key_id: KeyId, limit: Money) -> None:
        """Set or change it; it takes effect with the transaction. Raises Invalid for an amount that cannot be one."""
        known = await self._prices.headers(tx)
        nano = limit_to_nano(limit, known[-1].currency if known else limit.currency, "limits.budget")
        now = self.clock.now()
        account = await self._accounts.find_single(tx, AccountKind.KEY_LIMIT, key_id)
        if account is not None:
            await self._accounts.update(tx, account.id, now, limit_nano=nano)
        else:
            account = Account(
                id=self.ids("bud"),
                kind=AccountKind.KEY_LIMIT,
                target=Target(TargetKind.KEY, key_id),
                project=project,
                organization=None,
                window=BudgetWindow.TOTAL,
                limit_nano=nano,
                currency=limit.currency,
                alert_at=(),
                created_at=now,
            )
            await self._accounts.insert(tx, account, key_id)
        await notify(tx, BUDGETS, account.id)


class Budgets:
    """Budgets of a project, its keys and its organization, for those who may see them."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        identity: Identity,
        metering: Metering,
        prices: PriceBooks,
        balances: Balances,
        reserved: Reserved,
        ids: IdFactory = new_id,
    ) -> None:
        self.db = db
        self.clock = clock
        self.events = events
        self.identity = identity
        self.metering = metering
        self.prices = prices
        self.balances = balances
        self.reserved = reserved
        self.ids = ids
        self._accounts = AccountStore()
        self._ledger = LedgerStore()

    async def create_budget(
        self,
        principal: Principal,
        target: Mapping[str, str],
        limit: Money,
        window: BudgetWindow,
        alert_at: Sequence[Decimal] = (),
    ) -> Budget:
        """Limit what a project, one of its keys or its organization spends in a window.

        A project's or key's budget by day or month counts what the present period has already cost; others count from
        now on. What is reserved counts in any of them, from the present period on. Raises Invalid, UnknownProject,
        NotFound for a key, HomeProjectRequired for an organization.
        """
        shares = checked_shares(alert_at)
        aim, project, organization = await self._aim(principal, target)
        now = self.clock.now()
        async with self.db.transaction() as tx:
            currency = await self.prices.currency(tx)
            account = Account(
                id=self.ids("bud"),
                kind=AccountKind.BUDGET,
                target=aim,
                project=project,
                organization=organization,
                window=window,
                limit_nano=limit_to_nano(limit, currency, "limit"),
                currency=currency,
                alert_at=shares,
                created_at=now,
            )
            await self._accounts.insert(tx, account, principal.key_id)
            spent = await self._spent_before(tx, account)
            await self._ledger.open_period(
                tx, account.id, Balance(rules.period_of(window, now), committed_nano=spent, spent_nano=spent)
            )
            await self.reserved.cover(tx, account)
            await self._changed(tx, principal, account, "created")
            (budget,) = await self._with_balances(tx, [account])
        return budget

    async def list_budgets(self, principal: Principal, page: PageRequest) -> Page[Budget]:
        """The project's and its keys', and those of its organization with its credit limit. Raises Malformed."""
        if page.after is not None and not (len(page.after) == 1 and page.after[0].isascii()):
            raise Malformed("after is not a cursor of this list", code="bad_cursor")
        async with self.db.transaction() as tx:
            await self._ensure_credit(tx, principal)
            found = await self._accounts.page(tx, principal.project_id, principal.organization_id, page)
            return Page(tuple(await self._with_balances(tx, found.data)), found.next_cursor)

    async def get_budget(self, principal: Principal, id: str) -> Budget:
        """Raises UnknownBudget."""
        async with self.db.reading() as tx:
            return (await self._with_balances(tx, [await self._visible(tx, principal, id)]))[0]

    async def update_budget(
        self, principal: Principal, id: str, limit: Money | None, alert_at: Sequence[Decimal] | None
    ) -> Budget:
        """None leaves a thing as it is. A new limit takes effect at once: leases handed out before it stand.

        Raises UnknownBudget, NotABudget for a key's own limit, CreditLimitIsOperators, HomeProjectRequired.
        """
        async with self.db.transaction() as tx:
            account = await self._changeable(tx, principal, id)
            if limit is not None:
                account = replace(account, limit_nano=limit_to_nano(limit, account.currency, "limit"))
            if alert_at is not None:
                account = replace(account, alert_at=checked_shares(alert_at))
            alerts = shares_to_json(account.alert_at)
            await self._accounts.update(
                tx, account.id, self.clock.now(), limit_nano=account.limit_nano, alert_at=alerts
            )
            await self._changed(tx, principal, account, "updated")
            return (await self._with_balances(tx, [account]))[0]

    async def delete_budget(self, principal: Principal, id: str) -> None:
        """Raises as `update_budget`; a credit limit cannot be deleted, only changed."""
        async with self.db.transaction() as tx:
            account = await self._changeable(tx, principal, id)
            if account.kind is AccountKind.CREDIT_LIMIT:
                raise NotABudget("an organization always has a credit limit", suggestion="Change its limit instead.")
            await self._accounts.update(tx, account.id, self.clock.now(), deleted_at=self.clock.now())
            await self._changed(tx, principal, account, "deleted")

    async def pending_leases(self, principal: Principal, id: str) -> tuple[Account, list[Lease]]:
        """What is set aside for gateways and not yet booked or given back. Raises UnknownBudget."""
        async with self.db.reading() as tx:
            account = await self._visible(tx, principal, id)
            return account, await self.balances.open_leases(tx, account)

    async def release_lease(self, principal: Principal, id: str, lease: str) -> Budget:
        """Give a lease's rest back without its journal (operator).

        Raises UnknownBudget, UnknownLease, LeaseStillLive.
        """
        async with self.db.transaction() as tx:
            account = await self._visible(tx, principal, id)
            await self.balances.release_lease(tx, account, lease)
            await self._changed(tx, principal, account, "lease_released", lease=lease)
            return (await self._with_balances(tx, [account]))[0]

    # Helpers

    async def _aim(
        self, principal: Principal, target: Mapping[str, str]
    ) -> tuple[Target, ProjectId | None, OrganizationId | None]:
        """The target, and the project or the organization that owns the account."""
        if len(target) != 1:
            raise _bad_target("target", "name one of project, key and organization")
        ((kind, ref),) = target.items()
        if kind == "project":
            project = await self.identity.resolve_project(principal, ref)
            return Target(TargetKind.PROJECT, project), project, None
        if kind == "key":
            key = await self.identity.keys.get(principal.project_id, KeyId(ref))
            return Target(TargetKind.KEY, key.id), principal.project_id, None
        if kind == "organization":
            organization = await self.identity.tenants.administered(principal, ref)
            return Target(TargetKind.ORGANIZATION, organization), None, organization
        if kind == "tag":
            raise _bad_target(
                "target.tag", "budgets of tags are not there yet: use a project or a key", "not_supported"
            )
        raise _bad_target(f"target.{kind}", "a budget has a project, a key or an organization as its target")

    async def _spent_before(self, tx: Tx, account: Account) -> int:
        """What the target has cost in the present period, as far as it is recorded."""
        now = self.clock.now()
        period = rules.period_of(account.window, now)
        if account.window is BudgetWindow.TOTAL or account.project is None or now <= period.start:
            return 0
        window = Window(period.start, floor_hour(now) + timedelta(hours=1))
        prices = await self.prices.timeline(tx, window, account.project)
        query = UsageQuery(window, (*RATED_BY, "key"))
        pieces = await self.metering.rollups(tx, account.project, query, prices.cuts)
        if account.target.kind is TargetKind.KEY:
            pieces = [piece for piece in pieces if piece.groups["key"] == account.target.id]
        # What is reserved is set aside below, and booked from there.
        beside = await self.reserved.sold_to(tx, account)
        pieces = [piece for piece in pieces if piece.groups[RESERVATION] not in beside]
        costs = [charge.billed_cost for charge in self.prices.rate(pieces, prices)]
        if account.target.kind is TargetKind.PROJECT:
            costs += [own.amount for own in await self.prices.charges_within(tx, account.project, window)]
        return nano_ceil(exact_sum(costs))

    async def _ensure_credit(self, tx: Tx, principal: Principal) -> None:
        await self.balances.accounts_for(tx, principal.organization_id, principal.project_id, principal.key_id)

    async def _visible(self, tx: Tx, principal: Principal, id: str) -> Account:
        account = await self._accounts.get(tx, principal.project_id, principal.organization_id, id)
        if account is None:
            raise UnknownBudget(f"there is no budget {id} here", suggestion="GET /api/v1/budgets lists them.")
        return account

    async def _changeable(self, tx: Tx, principal: Principal, id: str) -> Account:
        account = await self._visible(tx, principal, id)
        if account.kind is AccountKind.KEY_LIMIT:
            raise NotABudget(
                "this is the key's own limit", suggestion=f"Change limits.budget of {account.target.id} instead."
            )
        if account.kind is AccountKind.CREDIT_LIMIT and not principal.operator:
            raise CreditLimitIsOperators("only an operator can change a credit limit", suggestion="Ask your operator.")
        if account.organization is not None:
            await self.identity.tenants.administered(principal, account.organization)
        return account

    async def _with_balances(self, tx: Tx, accounts: Sequence[Account]) -> list[Budget]:
        now = self.clock.now()
        periods: dict[str, Period] = {account.id: rules.period_of(account.window, now) for account in accounts}
        known = await self._ledger.balances(tx, [(id, period.start) for id, period in periods.items()])
        projects = {account.project for account in accounts if account.project is not None}
        names = await self.identity.project_names(tx, projects) if projects else {}
        return [
            Budget(
                account,
                known.get((account.id, periods[account.id].start)) or Balance(periods[account.id]),
                str(names.get(ProjectId(account.target.id), account.target.id)),
            )
            for account in accounts
        ]

    async def _changed(self, tx: Tx, principal: Principal, account: Account, verb: str, **detail: str) -> None:
        """Tell gateways, the timeline and the trail."""
        await notify(tx, BUDGETS, account.id)
        data = {"limit": plain(decimal_from_nano(account.limit_nano)), "currency": account.currency, **detail}
        await self.events.record(
            tx,
            project=account.project or principal.project_id,
            resource=account.id,
            resource_kind="budget",
            type=f"budget.{verb}",
            data=data,
        )
        await self.identity.audit(tx, principal, f"budget.{verb}", account.id, detail=data)


def _bad_target(path: str, message: str, code: str = "bad_target") -> Invalid:
    return Invalid(message, code=code, errors=[FieldError(path, code, message)])
