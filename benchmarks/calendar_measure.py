"""What calendar.py measures and prints. Rates are per second of this process's CPU time, unless they say wall."""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from benchmarks import calendar_service
from benchmarks.calendar_load import DAY, NODES, NOW, SKU, demand, empty, fill, fleet
from benchmarks.calendar_peers import Grid, Trees

from skerry.capacity.calendar.calendar import Calendar
from skerry.capacity.calendar.model import Booking, LeafKey
from skerry.capacity.calendar.warming import warm
from skerry.capacity.model import Scope


def main() -> None:
    parser = argparse.ArgumentParser(description="The capacity calendar: searches, quotes, reservations.")
    parser.add_argument("--reservations", type=int, default=5_400)
    parser.add_argument("--searches", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", type=int, default=10, help="searches that the dense grid answers too")
    parser.add_argument("--no-database", action="store_true", help="without quotes and durable reservations")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started = time.process_time()
    warm()
    results: dict[str, Any] = {"warm_cpu_s": time.process_time() - started}
    calendar = empty()
    started = time.process_time()
    results["asked"] = fill(calendar, options.reservations, options.seed)
    results["fill_cpu_s"] = time.process_time() - started
    results |= _state(calendar, options.reservations)
    results["searches"] = {
        str(scope): _searches(calendar, scope, options.searches, options.seed + 1)
        for scope in (Scope.HALL, Scope.LEAF, Scope.SITE, Scope.ANY)
    }
    results["sell_per_cpu_s"] = _sell(calendar, options.searches, options.seed + 2)
    results |= _rebuilt(calendar)
    results["peers"] = _peers(calendar, options.peers, options.seed + 3)
    if not options.no_database:
        results["service"] = asyncio.run(calendar_service.measure(calendar, options.seed + 4))
    print(json.dumps(results, default=float) if options.json else _table(results))


def _state(calendar: Calendar, reservations: int) -> dict[str, Any]:
    used, allocated = calendar.memory()
    month = 30 * DAY
    booked = []
    for start in range(NOW, NOW + 24 * month, month):
        free = calendar.free_schedule(SKU, None, start, start + month, NOW)
        booked.append(1 - sum(step.nodes * (step.end - step.start) for step in free) / (NODES * month))
    return {
        "reservations": reservations,
        "booked_pct_by_month": [round(100 * share) for share in booked],
        "memory_used": used,
        "memory_allocated": allocated,
    }


def _timed(call: Callable[[Any], Any], each: Sequence[Any]) -> tuple[list[Any], dict[str, float]]:
    """Answers; and how many a CPU second, and percentiles in milliseconds of CPU."""
    answers, took = [], np.empty(len(each))
    for at, one in enumerate(each):
        started = time.process_time_ns()
        answers.append(call(one))
        took[at] = time.process_time_ns() - started
    p50, p99, most = np.percentile(took, [50, 99, 100]) / 1e6
    return answers, {"per_cpu_s": len(each) / (took.sum() / 1e9), "p50_ms": p50, "p99_ms": p99, "max_ms": most}


def _searches(calendar: Calendar, scope: Scope, count: int, seed: int) -> dict[str, float]:
    rng = random.Random(seed)
    answers, times = _timed(lambda one: calendar.earliest(one, NOW), [demand(rng, scope=scope) for _ in range(count)])
    return times | {"found_pct": 100 * sum(answer is not None for answer in answers) / count}


def _sell(calendar: Calendar, count: int, seed: int) -> float:
    """Search and book, and give back, so that the calendar stays as full as it is."""
    rng = random.Random(seed)
    wanted = [demand(rng) for _ in range(count)]
    before = time.process_time()
    for one in wanted:
        found = calendar.earliest(one, NOW)
        for leg in found.placements if found else ():
            key = LeafKey(leg.leaf, SKU)
            calendar.book(key, Booking("another", leg.nodes, leg.start, leg.end))
            calendar.unbook(key, "another")
    return count / (time.process_time() - before)


def _rebuilt(calendar: Calendar) -> dict[str, float]:
    """All leaves anew, and one leaf; the calendar built anew is the same."""
    places = {key: (hall, site, nodes) for key, hall, site, nodes in fleet()}
    booked = {key: calendar.bookings(key, NOW) for key in places}

    def put(target: Calendar, key: LeafKey) -> None:
        hall, site, nodes = places[key]
        supply = [(NOW - DAY, nodes)]
        target.put_leaf(key, name=key.leaf, hall=hall, site=site, size=nodes, supply=supply, bookings=booked[key])

    started = time.process_time()
    anew = Calendar()
    for key in places:
        put(anew, key)
    anew.min_free(next(iter(places)), NOW, NOW + 1, NOW)
    took = time.process_time() - started
    year = (SKU, None, NOW, NOW + 3 * 365 * DAY, NOW)
    assert anew.free_schedule(*year) == calendar.free_schedule(*year), "rebuilt, it is another"
    _, one = _timed(lambda key: put(calendar, key), list(places))
    return {"rebuild_cpu_s": took, "leaf_anew_p50_ms": one["p50_ms"]}


def _peers(calendar: Calendar, count: int, seed: int) -> dict[str, Any]:
    """The same searches, in one hall and without whole leaves, which the grid does not know; answers must agree."""
    rng = random.Random(seed)
    wanted = [replace(demand(rng), whole_leaves=False) for _ in range(count)]
    answers, ours = _timed(lambda one: calendar.earliest(one, NOW), wanted)
    grid = Grid(calendar)
    starts, theirs = _timed(grid.earliest, wanted)
    assert [answer and answer.start for answer in answers] == starts, "the grid finds other starts"
    trees = Trees(calendar)
    fixed = [replace(demand(rng), whole_leaves=False) for _ in range(20 * count)]
    ours_at, at = _timed(lambda one: calendar.at(one, one.earliest, NOW) is not None, fixed)
    theirs_at, tree = _timed(lambda one: trees.fits(one, one.earliest), fixed)
    assert ours_at == theirs_at, "the trees find other room"
    return {
        "earliest": {"step functions": ours, "dense grid of hours, numpy": theirs | {"bytes": grid.free.nbytes}},
        "at a time": {"step functions": at, "interval trees, Python": tree},
    }


def _table(results: dict[str, Any]) -> str:
    kib = 1024
    lines = [
        f"{NODES} nodes, {results['reservations']} live reservations ({results['asked']} asked), synthetic;"
        f" booked by month: {' '.join(map(str, results['booked_pct_by_month']))} %",
        f"filled in {results['fill_cpu_s']:.2f} CPU s; rebuilt in {1000 * results['rebuild_cpu_s']:.0f} ms CPU,"
        f" one leaf anew in {results['leaf_anew_p50_ms']:.2f} ms;"
        f" machine code loaded in {results['warm_cpu_s']:.2f} CPU s",
        f"memory of step functions: {results['memory_used'] / kib:.0f} KiB used,"
        f" {results['memory_allocated'] / kib:.0f} KiB allocated",
        "",
        f"{'earliest start in one …':34}{'a CPU s':>10}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'found':>8}",
    ]
    for scope, row in results["searches"].items():
        lines.append(_row(scope, row) + f"{row['found_pct']:7.0f}%")
    lines += [f"{'search in a hall, book, give back':34}{results['sell_per_cpu_s']:10.0f}", ""]
    for question, rows in results["peers"].items():
        lines.append(f"{'in one hall, ' + question:34}")
        lines += [_row("  " + name, row) for name, row in rows.items()]
    return "\n".join([*lines, "", *calendar_service.table(results.get("service"))])


def _row(name: str, row: dict[str, float]) -> str:
    return f"{name:34}{row['per_cpu_s']:10.0f}{row['p50_ms']:9.3f}{row['p99_ms']:9.3f}{row['max_ms']:9.3f}"
