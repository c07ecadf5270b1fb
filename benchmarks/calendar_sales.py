"""Durable reservations: how many a second a server's service makes, and the control API before it.

Durable: `Reservations.reserve` has returned, and so the transaction is committed with fsync: the offer read, its leaves
locked, counted again in the database, inserted, with its event. Offers are quoted beforehand, each with room beside the
others; "contested" ones were quoted to all from the same calendar, as if many looked before anybody bought. Servers
are processes; customers are those who wait for an answer at the same time, in all servers together.
"""

import asyncio
import json
import multiprocessing
import os
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
from benchmarks.calendar_load import NOW

from skerry.billing.service import Billing, KeyBudgets
from skerry.capacity.asking import QuoteAsk
from skerry.capacity.calendar.model import Booking, LeafKey
from skerry.capacity.errors import OfferTaken
from skerry.capacity.live import WARMING
from skerry.capacity.service import Capacity, CapacityPolicy, HoldLimits, NewReservation
from skerry.db.database import Database
from skerry.db.embedded import EmbeddedPostgres
from skerry.fleet.service import Fleet
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.ids import OfferId
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server.app import create_app
from skerry.server.compose import build

SOLD_AS = "local"
"""The SKU that the first price book has prices for, on all lines."""
RESERVATIONS, WARM, POOL = 1_000, 5, 4
ROWS = ((1, 1, 0.2), (1, 32, 1), (8, 32, 1), (8, 128, 1))
"""Servers, customers, share of RESERVATIONS."""
HTTP_CUSTOMERS = 16
LIMITS = HoldLimits(holds=10**6, node_seconds=10**15, repeats=10**6)
KEYRING = Keyring([("k1", b"a secret of the benchmark")])


class Then:
    """The moment of the synthetic load."""

    def now(self) -> datetime:
        return at(NOW)


def at(moment: int) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


@dataclass
class Shop:
    database: Database
    identity: Identity
    billing: Billing
    capacity: Capacity

    @classmethod
    def over(cls, url: str) -> "Shop":
        clock, database = Then(), Database(url, pool_size=POOL, name="skerry-benchmark")
        events = EventLog(clock)
        identity = Identity(database, clock, KEYRING, events, budgets=KeyBudgets(clock))
        metering = Metering(database, clock)
        billing = Billing(database, clock, events, identity, metering, homes=identity, credit_limit=Decimal(10**9))
        policy = CapacityPolicy(holds=LIMITS)
        fleet = Fleet(database, clock)
        return cls(database, identity, billing, Capacity(database, clock, events, identity, billing, fleet, policy))

    async def ready(self, key: str) -> Principal:
        """As a server that has read everything and listens."""
        self.capacity.live.missed()
        await self.capacity.live.refresh()
        return await self.identity.authenticate(key)


@dataclass(frozen=True)
class Sale:
    """What a process is to sell, and to how many at a time."""

    url: str
    key: str
    offers: Sequence[OfferId]
    customers: int
    confirm: bool = False


async def measure(
    shop: Shop, server: EmbeddedPostgres, key: str, principal: Principal, rng: random.Random
) -> dict[str, Any]:
    rows = []
    for servers, customers, share in ROWS:
        offers = await _offers(shop, principal, int(RESERVATIONS * share) + WARM * servers, rng)
        rows.append({"kind": "holds"} | _sold(server, key, offers, servers, customers))
    offers = await _offers(shop, principal, RESERVATIONS + WARM * 8, rng, contested=True)
    rows.append({"kind": "holds, contested"} | _sold(server, key, offers, 8, 32))
    offers = await _offers(shop, principal, RESERVATIONS // 5 + WARM * 8, rng)
    rows.append({"kind": "bought at once"} | _sold(server, key, offers, 8, 32, confirm=True))
    for idempotent in (False, True):
        offers = await _offers(shop, principal, RESERVATIONS // 2 + WARM, rng)
        name = "control API, with Idempotency-Key" if idempotent else "control API"
        rows.append({"kind": name} | await _over_http(server, key, offers, idempotent))
    return {"rows": rows}


async def _offers(
    shop: Shop, principal: Principal, count: int, rng: random.Random, *, contested: bool = False
) -> list[OfferId]:
    """Small ones. Unless they are contested, what was offered is not offered again."""
    shop.capacity.live.missed()
    found: list[OfferId] = []
    while len(found) < count:
        start = at(NOW + 3600 * rng.randrange(24 * 900))
        nodes, hours = rng.randint(1, 4), rng.randint(1, 48)
        ask = QuoteAsk(SOLD_AS, nodes=nodes, duration_seconds=3600 * hours, earliest_after=start)
        quote = await shop.capacity.quotes.create(principal, ask)
        for offer in quote.offers[:1]:
            found.append(offer.id)
            for leg in () if contested else offer.legs:
                window = int(leg.window.start.timestamp()), int(leg.window.end.timestamp())
                shop.capacity.live.calendar.book(LeafKey(leg.leaf, SOLD_AS), Booking(offer.id, leg.nodes, *window))
    return found


def _sold(
    server: EmbeddedPostgres, key: str, offers: Sequence[OfferId], servers: int, customers: int, confirm: bool = False
) -> dict[str, Any]:
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload([__name__, WARMING])
    gate, told = fork.Barrier(servers + 1), fork.Queue()
    sales = [Sale(server.url(), key, offers[n::servers], customers // servers, confirm) for n in range(servers)]
    sellers = [fork.Process(target=sell, args=(sale, gate, told)) for sale in sales]
    for seller in sellers:
        seller.start()
    gate.wait()
    began, before = time.perf_counter(), _cpu(server)
    results = [told.get() for _ in sellers]
    took, database_cpu = time.perf_counter() - began, _cpu(server) - before
    gate.wait()
    for seller in sellers:
        seller.join()
    made, server_cpu = sum(made for made, _ in results), sum(cpu for _, cpu in results)
    return _row(servers, customers, len(offers) - WARM * servers, made, took, server_cpu, database_cpu)


def _row(
    servers: int, customers: int, asked: int, made: int, took: float, server_cpu: float, database_cpu: float
) -> dict[str, Any]:
    return {
        "servers": servers,
        "customers": customers,
        "per_s": made / took,
        "per_cpu_s": made / (server_cpu + database_cpu),
        "server_ms": 1000 * server_cpu / asked,
        "database_ms": 1000 * database_cpu / asked,
        "made": made,
        "taken": asked - made,
        "load": os.getloadavg()[0],
    }


def sell(sale: Sale, gate: Any, told: Any) -> None:
    """In a process of its own. Puts how many it sold and the CPU seconds it took."""
    asyncio.run(_sell(sale, gate, told))


async def _sell(sale: Sale, gate: Any, told: Any) -> None:
    shop = Shop.over(sale.url)
    principal = await shop.ready(sale.key)
    made, rest = 0, iter(sale.offers)

    async def customer(offers: Any) -> None:
        nonlocal made
        for offer in offers:
            try:
                await shop.capacity.reservations.reserve(principal, NewReservation(offer, confirm=sale.confirm))
            except OfferTaken:
                continue
            made += 1

    await customer(sale.offers[:WARM])
    rest, made = iter(sale.offers[WARM:]), 0
    gate.wait()
    started = time.process_time()
    await asyncio.gather(*(customer(rest) for _ in range(sale.customers)))
    told.put((made, time.process_time() - started))
    gate.wait()
    await shop.database.close()


async def _over_http(server: EmbeddedPostgres, key: str, offers: Sequence[OfferId], idempotent: bool) -> dict[str, Any]:
    """One server's whole application, called as its HTTP server calls it; the socket is left out."""
    database = Database(server.url(), pool_size=8, name="skerry-benchmark")
    home = Path("/nonexistent")
    settings = Settings(home=home, state=home)
    services = build(settings, database, KEYRING, Then())
    services.capacity.reservations.admissions.limits = LIMITS
    services.capacity.live.missed()
    await services.capacity.live.refresh()
    app, made, rest = create_app(services, settings), 0, iter(offers)

    async def customer(some: Any) -> None:
        nonlocal made
        for offer in some:
            status = await _post(app, key, offer, idempotent)
            made += status == 201

    await customer(offers[:WARM])
    rest, made = iter(offers[WARM:]), 0
    began, started, before = time.perf_counter(), time.process_time(), _cpu(server)
    await asyncio.gather(*(customer(rest) for _ in range(HTTP_CUSTOMERS)))
    took, server_cpu, database_cpu = time.perf_counter() - began, time.process_time() - started, _cpu(server) - before
    await database.close()
    return _row(1, HTTP_CUSTOMERS, len(offers) - WARM, made, took, server_cpu, database_cpu)


async def _post(app: Any, key: str, offer: OfferId, idempotent: bool) -> int:
    """The status of the answer to a hold."""
    body = json.dumps({"offer_id": offer}).encode()
    headers = {
        "host": "cloud",
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **({"idempotency-key": offer} if idempotent else {}),
    }
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/api/v1/reservations", "raw_path": b"/api/v1/reservations", "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("cloud", 80), "state": {},
    }  # fmt: skip
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    status = 0

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)
    return status


def _cpu(server: EmbeddedPostgres) -> float:
    """CPU seconds of the database's processes, those that have ended included."""
    assert server.pid is not None
    main = psutil.Process(server.pid)
    own = main.cpu_times()
    spent = own.user + own.system + own.children_user + own.children_system
    for child in main.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            spent += times.user + times.system
    return float(spent)


def table(results: dict[str, Any]) -> list[str]:
    lines = [
        f"{'durable reservations':36}{'servers':>8}{'customers':>10}{'a second':>10}{'a CPU s':>9}"
        f"{'server ms':>11}{'database ms':>13}{'made':>6}{'taken':>7}{'load':>6}"
    ]
    for row in results["rows"]:
        lines.append(
            f"{row['kind']:36}{row['servers']:8}{row['customers']:10}{row['per_s']:10.0f}{row['per_cpu_s']:9.0f}"
            f"{row['server_ms']:11.2f}{row['database_ms']:13.2f}{row['made']:6}{row['taken']:7}{row['load']:6.1f}"
        )
    return lines
