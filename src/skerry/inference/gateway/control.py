"""Keeps the gateway's snapshot current, and fetches its leases: everything here may wait for the database."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from skerry.billing.model import Account as BillingAccount
from skerry.billing.model import AccountKind, AccountSnapshot, PriceTarget, RefusalReason, Refused, TokenSchedule
from skerry.billing.service import Billing
from skerry.db.database import Database, Tx
from skerry.db.notify import BUDGETS, KEYS, PRICES, ROUTES, Listener, notify
from skerry.identity.model import KeyRecord, Scope
from skerry.identity.service import Identity
from skerry.inference.gateway.balances import LEASE_SECONDS, Grant
from skerry.inference.gateway.demand import demands
from skerry.inference.gateway.errors import Denied
from skerry.inference.gateway.gateway import Gateway
from skerry.inference.gateway.pricing import PriceSchedule, TokenPrice
from skerry.inference.gateway.snapshot import Pools
from skerry.inference.gateway.state import KeyState, RouteState
from skerry.inference.model import Demand, Route
from skerry.inference.service import Inference
from skerry.kernel.errors import Conflict, Unavailable
from skerry.kernel.ids import KeyId, OrganizationId, ProjectId

POLL_SECONDS = 5.0
"""A change whose NOTIFY was lost is seen this much later at most (DESIGN §7: a revoked key within 10 s)."""
AWAY_SECONDS = 0.5
REPORT_SECONDS = 1.0
REPORT_PAUSE_SECONDS = 0.05
"""Between two reports, however many requests begin to wait."""
HEARTBEAT_SECONDS = 5.0
KINDS = {KEYS: "keys", ROUTES: "routes", PRICES: "routes", BUDGETS: "accounts"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVERYTHING = frozenset(KINDS.values())


class LeaseBank:
    """The balances of the database, as the gateway's `Bank`."""

    def __init__(self, db: Database, billing: Billing, journal: str) -> None:
        self._db, self._billing, self._journal = db, billing, journal
        self.on_missing: Callable[[], None] = lambda: None
        """Called where an account is gone: the snapshot is behind."""

    async def lease(self, account: str, minimum: int, wanted: int, grow: str | None) -> Grant:
        """Raises Denied, Unavailable."""
        ttl = timedelta(seconds=LEASE_SECONDS)
        async with self._db.transaction() as tx:
            got = await self._billing.balances.acquire_lease(tx, account, self._journal, minimum, wanted, ttl, grow)
        if not isinstance(got, Refused):
            return Grant(got.lease, got.amount_nano, got.seconds)
        if got.reason is RefusalReason.NO_SUCH_ACCOUNT:
            self.on_missing()
            raise Unavailable("The budget has just changed. Please try again.", code="budget_changed", retry_after=1)
        assert got.kind is not None
        assert got.window is not None
        kind = {AccountKind.KEY_LIMIT: "key", AccountKind.CREDIT_LIMIT: "organization"}.get(got.kind, "budget")
        raise Denied(got.remaining_nano, got.limit_nano, kind, got.window.value)


class Control:
    """Reads what has changed: at once when told by NOTIFY, and every few seconds anyway."""

    def __init__(
        self, gateway: Gateway, db: Database, identity: Identity, billing: Billing, inference: Inference, pools: Pools,
        name: str,
    ) -> None:  # fmt: skip
        """`name`: the gateway's, unique among those that run."""
        self._gateway, self._db = gateway, db
        self._identity, self._billing, self._inference = identity, billing, inference
        self._pools = pools
        self._wanted: set[str] = set(EVERYTHING)
        self._wake = asyncio.Event()
        self._seq = 0
        self._report = asyncio.Event()
        self._name = name
        self._log = structlog.get_logger("gateway.control")

    async def run(self, requests_limit: int, tokens_limit: int) -> None:
        """Until cancelled, whatever becomes of the database."""
        listener = Listener(self._db.url, KINDS, self._notified, self.refresh_all, name="skerry-gateway-listener")
        listening = asyncio.create_task(listener.run())
        reporting = asyncio.create_task(self._report_for_ever())
        away = False
        try:
            while True:
                self._wake.clear()
                wanted, self._wanted = self._wanted, set()
                begun = time.monotonic()
                try:
                    await self._refresh(wanted or EVERYTHING, requests_limit, tokens_limit)
                    if not wanted or wanted == EVERYTHING:
                        self._gateway.snapshot.fresh_at = begun
                    away = False
                except Exception as error:  # the outermost loop: a gateway outlives its database
                    self._wanted |= wanted or EVERYTHING
                    if not away:
                        self._log.warning("refresh_failed", reason=str(error), kind=type(error).__name__)
                    away = True
                await self._pause(AWAY_SECONDS if away else POLL_SECONDS, interruptible=not away)
        finally:
            listening.cancel()
            reporting.cancel()

    def refresh_all(self) -> None:
        self._wanted |= EVERYTHING
        self._wake.set()

    def demand_wanted(self) -> None:
        """Somebody waits where there is no replica: tell the autoscaler now."""
        self._report.set()

    def accounts_wanted(self, key: KeyState, retry: Callable[[], None]) -> None:
        """A key whose organization has no credit limit yet: make it, then let the request go on."""
        self._gateway.spawn(self._fetch_accounts(key, retry))

    def _notified(self, channel: str, _payload: str) -> None:
        self._wanted.add(KINDS[channel])
        self._wake.set()

    async def _pause(self, seconds: float, *, interruptible: bool) -> None:
        if not interruptible:
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _refresh(self, wanted: frozenset[str] | set[str], requests_limit: int, tokens_limit: int) -> None:
        gateway = self._gateway
        gone: list[RouteState] = []
        async with self._db.reading() as tx:
            if "keys" in wanted:
                records = await self._identity.key_snapshot(tx, self._seq)
                await self._put_keys(tx, records, requests_limit, tokens_limit)
            if "routes" in wanted:
                routes = await self._inference.routes(tx)
                prices = await self._prices(tx, routes)
                gone = gateway.snapshot.put_routes(routes, prices, self._pools)
                gateway.snapshot.share_with(await self._inference.gateways(tx))
            if "accounts" in wanted or "keys" in wanted:
                self._put_accounts(await self._billing.balances.accounts(tx))
        if "accounts" in wanted:
            gateway.balances.forget_refusals()
        gateway.waiting_room.admit(gateway.snapshot.routes.values(), gone)

    async def _report_for_ever(self) -> None:
        """What waits and runs here, once a second while there is something to say; and that this gateway lives."""
        said: list[Demand] | None = None
        said_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._report.wait()
            self._report.clear()
            now = self._gateway.now()
            current = demands(self._gateway.snapshot.routes.values(), now)
            if current == said and now - said_at < HEARTBEAT_SECONDS:
                continue
            try:
                async with self._db.transaction() as tx:
                    await self._inference.report_demand(tx, self._name, current)
                    if said is None:
                        await notify(tx, ROUTES)  # the others share their limits with one more
                said, said_at = current, now
            except (Unavailable, Conflict) as error:
                self._log.debug("demand_unreported", reason=error.detail)
            await asyncio.sleep(REPORT_PAUSE_SECONDS)

    async def _put_keys(self, tx: Tx, records: list[KeyRecord], requests_limit: int, tokens_limit: int) -> None:
        snapshot = self._gateway.snapshot
        snapshot.put_keys(records, requests_limit, tokens_limit)
        for record in records:
            self._seq = max(self._seq, record.seq)
            if Scope.OPERATOR in record.scopes:
                # An operator's key acts on the demo organization's first project unless it says otherwise (API §2).
                project = await self._identity.default_project(tx)
                state = snapshot.keys[record.digest]
                state.project, state.organization = project.id, project.organization_id

    async def _prices(self, tx: Tx, routes: list[Route]) -> dict[str, PriceSchedule]:
        # By the route's name: a model may have several routes, at several prices.
        targets = {route.name: _target(route) for route in routes}
        found = await self._billing.prices.model_prices(tx, set(targets.values()))
        return {name: _schedule(found[target]) for name, target in targets.items()}

    def _put_accounts(self, accounts: AccountSnapshot) -> None:
        for state in self._gateway.snapshot.keys.values():
            own = (
                *accounts.by_key.get(KeyId(state.id), ()),
                *accounts.by_project.get(ProjectId(state.project), ()),
                *accounts.by_organization.get(OrganizationId(state.organization), ()),
            )
            self._set_accounts(state, own)

    def _set_accounts(self, state: KeyState, own: tuple[BillingAccount, ...]) -> None:
        state.accounts = tuple(self._gateway.balances.account(account.id, account.kind.value) for account in own)
        state.ready = any(account.kind is AccountKind.CREDIT_LIMIT for account in own)

    async def _fetch_accounts(self, key: KeyState, retry: Callable[[], None]) -> None:
        organization, project = OrganizationId(key.organization), ProjectId(key.project)
        try:
            async with self._db.transaction() as tx:
                own = await self._billing.balances.accounts_for(tx, organization, project, KeyId(key.id))
            self._set_accounts(key, own)
            key.trouble = None if key.ready else Unavailable("This organization has no credit limit")
        except (Unavailable, Conflict) as error:
            key.trouble = Unavailable(
                "Balances cannot be read at the moment", code="database_unavailable", retry_after=1
            )
            self._log.warning("accounts_unread", reason=error.detail)
        retry()


def _target(route: Route) -> PriceTarget:
    return PriceTarget(route.model_name, route.site, route.capacity_class, route.charge_by)


def _schedule(found: TokenSchedule) -> PriceSchedule:
    prices = tuple(
        TokenPrice(_microseconds(price.since), price.prompt, price.cached, price.completion, price.egress)
        for price in found.prices
    )
    return PriceSchedule(found.currency, prices)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
