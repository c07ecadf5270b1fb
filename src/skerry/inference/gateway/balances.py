"""Budgets on the hot path: reserve the ceiling of a request, settle what it cost, never ask the database in between.

The gateway holds *leases*: parts of an account's balance that the database has set aside for it until a moment. A
reservation takes from one lease of each account that applies; a settlement gives back what was not used. A lease is not
used for admission in its last seconds, and the database takes its rest back only when the journal says that all answers
it paid for are written (DESIGN §5 Balance).
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from skerry.inference.gateway.errors import Denied
from skerry.kernel.errors import Unavailable

STOP_SECONDS = 5.0
"""Before its end, a lease no longer admits."""
LEASE_SECONDS = 60.0
RENEW_SECONDS = 20.0
"""This long before admission on a lease stops, the next one is fetched."""
MEMORY_SECONDS = 1.0
"""How long a refusal is remembered without asking again, and how long after one no lease is renewed."""
LEAST_CEILINGS = 64
"""A new lease asks for this many requests like the one that needs it."""


class Lease:
    """All amounts in nano-units. `stop_at` is monotonic seconds."""

    def __init__(self, id: str, amount: int, free: int, stop_at: float) -> None:
        self.id = id
        self.amount = amount
        self.free = free
        self.stop_at = stop_at
        self.grows = True
        """False where the bank would not add to it (its period was changed)."""


@dataclass(frozen=True)
class Grant:
    """What the database set aside: a new lease, or (`grown`) more on an old one."""

    lease: str
    amount: int
    seconds: float
    """How long it is good for, from now."""


class Bank(Protocol):
    """Where leases come from; raises Denied, and Unavailable while the database is away."""

    async def lease(self, account: str, minimum: int, wanted: int, grow: str | None) -> Grant: ...


class Account:
    """One balance as this gateway holds it."""

    def __init__(self, id: str, kind: str) -> None:
        self.id = id
        self.kind = kind
        self.leases: list[Lease] = []
        self.spent_recently = 0
        """Spent since the last lease was fetched; the next lease is sized by it."""
        self.denied: Denied | None = None
        self.trouble: Unavailable | None = None
        self.refused_until = 0.0
        """Until then `denied` or `trouble` is what the bank says."""
        self.fetching = False
        self.waiting: list[Callable[[], None]] = []


Reservation = list[tuple[Account, Lease]]


class Balances:
    """All accounts this gateway has seen. Single-threaded: everything happens on the event loop."""

    def __init__(
        self, bank: Bank, now: Callable[[], float], spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._bank, self._now, self._spawn = bank, now, spawn
        self._accounts: dict[str, Account] = {}

    def account(self, id: str, kind: str) -> Account:
        found = self._accounts.get(id)
        if found is None:
            found = self._accounts[id] = Account(id, kind)
        return found

    def forget_refusals(self) -> None:
        """A budget has changed: ask again."""
        for account in self._accounts.values():
            account.denied, account.refused_until = None, 0.0

    def reserve(self, accounts: tuple[Account, ...], ceiling: int, retry: Callable[[], None]) -> Reservation | None:
        """Take `ceiling` from one lease of each account.

        None: a lease is being fetched and `retry` will be called, once. Raises Denied, and Unavailable where the
        database is away and the leases at hand do not cover the request.
        """
        now = self._now()
        taken: Reservation = []
        for account in accounts:
            lease = self._usable(account, ceiling, now)
            if lease is None and not ceiling:
                continue  # nothing to reserve: an exhausted balance does not keep anybody from what is free
            if lease is None:
                self.release(taken, ceiling)
                self._fetch_for(account, ceiling, now, retry)
                return None
            lease.free -= ceiling
            taken.append((account, lease))
        return taken

    def settle(self, reservation: Reservation, ceiling: int, cost: int) -> None:
        """Give back what was reserved beyond `cost`."""
        for account, lease in reservation:
            lease.free += ceiling - cost
            account.spent_recently += cost

    def release(self, reservation: Reservation, ceiling: int) -> None:
        for _, lease in reservation:
            lease.free += ceiling

    def _usable(self, account: Account, ceiling: int, now: float) -> Lease | None:
        leases = account.leases
        if leases:
            lease = leases[0]
            if lease.free >= ceiling and now < lease.stop_at:
                if now > lease.stop_at - RENEW_SECONDS and len(leases) == 1:
                    self._renew(account, ceiling, now)
                return lease
            leases[:] = [lease for lease in leases if now < lease.stop_at]
        return next((lease for lease in leases if lease.free >= ceiling), None)

    def _renew(self, account: Account, ceiling: int, now: float) -> None:
        if ceiling and not account.fetching and now >= account.refused_until:
            self._fetch(account, ceiling, now)

    def _fetch_for(self, account: Account, ceiling: int, now: float, retry: Callable[[], None]) -> None:
        if not account.fetching:
            if (denied := _standing(account, ceiling, now)) is not None:
                raise denied
            account.denied = account.trouble = None
            self._fetch(account, ceiling, now)
        account.waiting.append(retry)

    def raise_refusal(self, accounts: tuple[Account, ...], ceiling: int) -> None:
        """After a retry: raise what the last fetch ended with, if it did not help."""
        now = self._now()
        for account in accounts:
            if account.fetching or not ceiling or self._usable(account, ceiling, now) is not None:
                continue
            if account.trouble is not None and now < account.refused_until:
                raise account.trouble
            if (denied := _standing(account, ceiling, now)) is not None:
                raise denied

    def _fetch(self, account: Account, ceiling: int, now: float) -> None:
        account.fetching = True
        live = _growable(account, now)
        grow = live.id if live is not None else None
        minimum = ceiling - live.free if live is not None else ceiling
        wanted = max(LEAST_CEILINGS * ceiling, 2 * account.spent_recently, minimum)
        self._spawn(self._fetch_now(account, max(minimum, 0), wanted, live, grow))

    async def _fetch_now(
        self, account: Account, minimum: int, wanted: int, live: Lease | None, grow: str | None
    ) -> None:
        # Stands where the bank fails in a way of its own: asking it again at once, for ever, would help nobody.
        trouble: Unavailable | None = Unavailable(
            "Balances cannot be read at the moment", code="database_unavailable", retry_after=1
        )
        try:
            grant = await self._bank.lease(account.id, minimum, wanted, grow)
        except Denied as denied:
            account.denied, trouble = denied, None
        except Unavailable as away:
            trouble = away
        else:
            trouble = None
            self._credit(account, grant, live)
        finally:
            account.trouble, account.fetching = trouble, False
            if trouble is not None or account.denied is not None:
                account.refused_until = self._now() + MEMORY_SECONDS
            waiting, account.waiting = account.waiting, []
            for retry in waiting:
                retry()

    def _credit(self, account: Account, grant: Grant, live: Lease | None) -> None:
        account.spent_recently, account.denied = 0, None
        if live is not None and grant.lease == live.id:
            live.amount += grant.amount
            live.free += grant.amount
        else:
            if live is not None:
                live.grows = False
            stop_at = self._now() + grant.seconds - STOP_SECONDS
            account.leases.append(Lease(grant.lease, grant.amount, grant.amount, stop_at))


def _growable(account: Account, now: float) -> Lease | None:
    """A lease that has time left but too little money grows; otherwise its rest would be out of reach."""
    return next((lease for lease in account.leases if lease.grows and now < lease.stop_at - RENEW_SECONDS), None)


def _standing(account: Account, ceiling: int, now: float) -> Denied | None:
    """The bank's last refusal, where it holds for this request too: what the bank has left would not fill it up."""
    denied = account.denied
    if denied is None or now >= account.refused_until:
        return None
    live = _growable(account, now)
    return denied if ceiling - (live.free if live is not None else 0) > denied.remaining else None
