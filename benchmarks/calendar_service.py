"""Whole quotes and durable reservations: the services of capacity on a PostgreSQL. See calendar.py.

The fleet and the bookings are those of the searches. A *whole quote* has its offers (as requested or earliest, cheaper,
greener), each with price and energy estimate. Reservations are in calendar_sales.py.
"""

import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import calendar_sales
from benchmarks.calendar_load import NOW, demand, fleet
from benchmarks.calendar_sales import SOLD_AS, Shop, at
from sqlalchemy import insert, text

from skerry.capacity.asking import QuoteAsk
from skerry.capacity.calendar.calendar import Calendar
from skerry.capacity.model import ReservationStatus, Scope
from skerry.capacity.rules.asking import checked
from skerry.capacity.tables import reservation_legs, reservations
from skerry.db import migrate
from skerry.db.database import Tx
from skerry.db.embedded import EmbeddedPostgres
from skerry.fleet import tables
from skerry.fleet.model import NodeStatus
from skerry.identity.model import Principal

QUOTES = 300
OVERSOLD = text(
    "SELECT count(*) FROM reservation_legs a WHERE live AND (SELECT sum(b.nodes) FROM reservation_legs b WHERE b.live"
    " AND b.leaf = a.leaf AND b.start_at <= a.start_at AND b.end_at > a.start_at)"
    " > (SELECT count(*) FROM nodes n WHERE n.leaf_id = a.leaf)"
)


async def measure(calendar: Calendar, seed: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="sk-", dir="/tmp"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "data", folder / "sock", log=folder / "postgres.log")
    try:
        server.start()
        migrate.upgrade(server.url())
        shop = Shop.over(server.url())
        key = await _stock(shop, calendar)
        try:
            return await _measured(shop, server, key, seed)
        finally:
            await shop.database.close()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _measured(shop: Shop, server: EmbeddedPostgres, key: str, seed: int) -> dict[str, Any]:
    started = time.process_time()
    principal = await shop.ready(key)
    results: dict[str, Any] = {"loaded_cpu_s": time.process_time() - started}
    rng = random.Random(seed)
    results["quotes_from_memory"] = await _drafted(shop, principal, [_ask(rng) for _ in range(QUOTES)])
    began, started = time.perf_counter(), time.process_time()
    for _ in range(QUOTES):
        await shop.capacity.quotes.create(principal, _ask(rng))
    results["quotes_stored"] = {
        "per_cpu_s": QUOTES / (time.process_time() - started),
        "per_s": QUOTES / (time.perf_counter() - began),
    }
    results["sales"] = await calendar_sales.measure(shop, server, key, principal, rng)
    async with shop.database.reading() as tx:
        results["oversold"] = (await tx.execute(OVERSOLD)).scalar_one()
    return results


async def _drafted(shop: Shop, principal: Principal, asks: Sequence[QuoteAsk]) -> dict[str, float]:
    """Quotes without the database: searches, prices, energy."""
    quotes = shop.capacity.quotes
    requests = [checked(ask, quotes.market(), ()) for ask in asks]
    async with shop.database.reading() as tx:
        prices = await quotes.prices(tx, principal.organization_id, requests[0])
    took, offers = [], 0
    for request in requests:
        started = time.process_time_ns()
        offers += len(quotes.draft(request, prices)[0])
        took.append((time.process_time_ns() - started) / 1e9)
    took.sort()
    return {"per_cpu_s": len(took) / sum(took), "p50_ms": 1000 * took[len(took) // 2], "offers": offers / len(took)}


async def _stock(shop: Shop, calendar: Calendar) -> str:
    """The fleet and what is booked there, in the database; returns a key of the customer."""
    made = await shop.identity.bootstrap()
    await shop.billing.bootstrap("EUR")
    assert made.project_key is not None
    async with shop.database.transaction() as tx:
        await _fill_fleet(tx)
        await _fill_bookings(tx, calendar)
    async with shop.database.transaction() as tx:
        await tx.execute(text("ANALYZE"))
    return made.project_key


async def _fill_fleet(tx: Tx) -> None:
    now: dict[str, Any] = {"created_at": at(NOW - 86_400)}
    shape = {"accelerator": "H100", "accelerators_per_node": 8, "cpu": 192, "memory": 2**41, "nvlink": True}
    await tx.execute(insert(tables.skus).values(id="sku_1", name=SOLD_AS, **shape, tdp_w=10_200, idle_w=2_300, **now))
    halls: dict[str, str] = {}
    leaves, nodes = [], []
    for key, hall, site, count in fleet():
        halls[hall] = site
        leaves.append({"id": key.leaf, "name": key.leaf, "hall_id": hall, **now})
        nodes += [
            {
                "id": f"{key.leaf}-{n}", "hostname": f"{key.leaf}-{n}", "sku_id": "sku_1", "leaf_id": key.leaf,
                "accelerators": [], "status": NodeStatus.READY.value, "updated_at": now["created_at"], **now,
            }
            for n in range(count)
        ]  # fmt: skip
    for number, site in enumerate(sorted(set(halls.values()))):
        carbon = {"hourly": [20 + 60 * number] * 24, "source": "synthetic", "estimated": False}
        await tx.execute(insert(tables.sites).values(id=site, name=site, country="NO", pue="1.1", carbon=carbon, **now))
    await tx.execute(
        insert(tables.halls), [{"id": hall, "name": hall, "site_id": site, **now} for hall, site in halls.items()]
    )
    await tx.execute(insert(tables.leaves), leaves)
    await tx.execute(insert(tables.nodes), nodes)


async def _fill_bookings(tx: Tx, calendar: Calendar) -> None:
    legs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for key, hall, site, _ in fleet():
        for booking in calendar.bookings(key, NOW):
            legs[booking.id].append(
                {
                    "id": f"{booking.id}-{key.leaf}", "reservation": booking.id, "project": "proj_x", "leaf": key.leaf,
                    "leaf_name": key.leaf, "hall": hall, "site": site, "sku": SOLD_AS, "nodes": booking.nodes,
                    "start_at": at(booking.start), "end_at": at(booking.end), "live": True,
                }
            )  # fmt: skip
    rows = [
        {
            "id": id_, "project": "proj_x", "organization": "org_x", "name": id_, "sku": SOLD_AS,
            "status": ReservationStatus.CONFIRMED.value, "status_reason": {}, "scope": "hall", "scope_required": True,
            "price": {}, "energy": {}, "tags": {}, "start_at": own[0]["start_at"], "end_at": own[0]["end_at"],
            "node_seconds": 0, "created_by": "x", "created_at": at(NOW), "updated_at": at(NOW),
        }
        for id_, own in legs.items()
    ]  # fmt: skip
    await tx.execute(insert(reservations), rows)
    every = iter([leg for own in legs.values() for leg in own])
    while some := list(islice(every, 2_000)):
        await tx.execute(insert(reservation_legs), some)


def _ask(rng: random.Random) -> QuoteAsk:
    wanted = demand(rng, scope=rng.choice(list(Scope)))
    return QuoteAsk(
        SOLD_AS,
        nodes=min(wanted.nodes, 32) if wanted.scope is Scope.LEAF else wanted.nodes,
        duration_seconds=wanted.seconds,
        earliest_after=at(wanted.earliest),
        scope=wanted.scope,
        scope_required=rng.random() < 0.5,
    )


def table(results: dict[str, Any] | None) -> list[str]:
    if results is None:
        return []
    memory, stored = results["quotes_from_memory"], results["quotes_stored"]
    lines = [
        f"whole quotes with prices, from memory: {memory['per_cpu_s']:.0f} a CPU s, p50 {memory['p50_ms']:.2f} ms,"
        f" {memory['offers']:.1f} offers each",
        f"whole quotes, stored: {stored['per_cpu_s']:.0f} a CPU s of the server, {stored['per_s']:.0f} a second (wall)",
    ]
    lines += calendar_sales.table(results["sales"])
    return [*lines, f"leaves with more promised than they have, at any moment: {results['oversold']}"]
