"""How fast usage goes into PostgreSQL, beside ways that take less care.

    python benchmarks/intake.py [--url postgresql://…] [--facts 200000] [--batch 10000] [--rounds 3]

Without --url an embedded PostgreSQL is started in a temporary folder, durable as in production; with it, name a
database made for this. A rate is facts committed a second, one transaction a batch, best of the rounds. Client CPU is
this process's, server CPU that of the embedded database's processes. An answer makes four facts.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import text

from skerry.db import migrate
from skerry.db.database import Database, Tx, driver_connection
from skerry.db.embedded import EmbeddedPostgres
from skerry.inference.requests.service import RequestLog
from skerry.kernel.clock import SystemClock
from skerry.kernel.ids import KeyId, ProjectId, new_uuid7
from skerry.metering.journal_intake import facts_of_all
from skerry.metering.model import UsageFact
from skerry.metering.service import Metering
from skerry.runtime.journal.records import AnswerRecord
from skerry.runtime.secrets import Keyring

COLUMNS = "id, t1, t0, meter, quantity, project, resource, dims"
TYPES = ("uuid", "timestamptz", "timestamptz", "text", "int8", "text", "text", "uuid")
FACTS_A_RECORD = 4

Send = Callable[[Tx, Sequence[UsageFact]], Awaitable[int]]


@dataclass(frozen=True)
class Result:
    name: str
    inserted: int
    seconds: float
    client: float
    server: float | None
    sent: int

    @property
    def rate(self) -> float:
        return self.sent / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--facts", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with database_url(options.url) as (url, pid):
        migrate.upgrade(url)
        results = asyncio.run(measure(url, pid, options.facts, options.batch, options.rounds))
    print_table(results)
    replay = results[-1]
    if replay.inserted:
        raise SystemExit(f"the replay inserted {replay.inserted} facts: it must insert none")


@contextmanager
def database_url(given: str | None) -> Iterator[tuple[str, int | None]]:
    if given:
        yield given, None
        return
    folder = Path(tempfile.mkdtemp(prefix="sk-", dir="/tmp"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "data", folder / "sock", log=folder / "postgres.log")
    try:
        server.start()
        yield server.url(), server.pid
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def measure(url: str, pid: int | None, count: int, batch: int, rounds: int) -> list[Result]:
    database = Database(url, name="skerry-benchmark")
    bench = Bench(database, pid, batch)
    try:
        plain = [await bench.run("plain COPY, no key: counts repetitions", answers(count), bench.copy)]
        plain += [await bench.run(plain[0].name, answers(count), bench.copy) for _ in range(rounds - 1)]
        many = [await bench.run("executemany, ON CONFLICT", answers(count // 10), bench.executemany)]
        one = [await bench.run("Skerry intake", answers(count), bench.intake) for _ in range(rounds)]
        two = [await bench.run("Skerry intake, 2 connections", answers(count), bench.intake, 2) for _ in range(rounds)]
        made, logged = [], []
        for _ in range(rounds):
            made.append(
                await bench.run_journal("… the facts made of journal records", records(count // FACTS_A_RECORD))
            )
            logged.append(
                await bench.run_journal("… and a row of the request log", records(count // FACTS_A_RECORD), log=True)
            )
        facts = answers(count)
        await bench.run("", facts, bench.intake)
        replay = await bench.run("Skerry intake, the same again", facts, bench.intake)
        return [*(max(runs, key=lambda run: run.rate) for runs in (plain, many, one, two, made, logged)), replay]
    finally:
        await database.close()


class Nobody:
    """Names and currencies are asked for in reading only."""

    async def key_names(self, tx: Tx, project: ProjectId, ids: set[KeyId]) -> dict[KeyId, str]:
        return {}

    async def keys_called(self, tx: Tx, project: ProjectId, text: str, *, part: bool = False) -> set[KeyId]:
        return set()

    async def currency(self, tx: Tx) -> str:
        return "EUR"


class Bench:
    def __init__(self, database: Database, pid: int | None, batch: int) -> None:
        self.database, self.pid, self.batch = database, pid, batch
        self.metering = Metering(database, SystemClock())
        self.log = RequestLog(database, SystemClock(), Keyring([("k1", os.urandom(16))]), Nobody(), Nobody(), days=30)

    async def run(self, name: str, facts: Sequence[UsageFact], send: Send, connections: int = 1) -> Result:
        await self._prepare()
        batches = [facts[n : n + self.batch] for n in range(0, len(facts), self.batch)]
        return await self._timed(name, batches, send, len(facts), connections)

    async def run_journal(self, name: str, records: Sequence[AnswerRecord], *, log: bool = False) -> Result:
        """The facts are made while the clock runs, as the shipper makes them; two connections."""
        size = self.batch // FACTS_A_RECORD
        batches = [records[n : n + size] for n in range(0, len(records), size)]

        async def send(tx: Tx, part: Sequence[AnswerRecord]) -> int:
            inserted = await self.intake(tx, facts_of_all(part))
            if log:
                await self.log.store(tx, part, ())
            return inserted

        return await self._timed(name, batches, send, len(records) * FACTS_A_RECORD, connections=2)

    async def intake(self, tx: Tx, facts: Sequence[UsageFact]) -> int:
        return (await self.metering.intake(tx, facts)).inserted

    async def copy(self, tx: Tx, facts: Sequence[UsageFact]) -> int:
        connection = await driver_connection(tx)
        statement = f"COPY plain_facts ({COLUMNS}) FROM STDIN (FORMAT binary)"
        async with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(TYPES)
            for fact in facts:
                await copy.write_row(_row(fact))
        return len(facts)

    async def executemany(self, tx: Tx, facts: Sequence[UsageFact]) -> int:
        connection = await driver_connection(tx)
        statement = (
            f"INSERT INTO keyed_facts ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        )
        async with connection.cursor() as cursor:
            await cursor.executemany(statement, [_row(fact) for fact in facts])
            return cursor.rowcount

    async def _prepare(self) -> None:
        async with self.database.transaction() as tx:
            for name, key in (("plain_facts", ""), ("keyed_facts", ", PRIMARY KEY (id, t1)")):
                await tx.execute(text(f"DROP TABLE IF EXISTS {name}"))
                await tx.execute(text(f"CREATE TABLE {name} (LIKE usage_facts{key})"))

    async def _timed(
        self, name: str, batches: Sequence[Sequence], send: Callable[..., Awaitable[int]], sent: int, connections: int
    ) -> Result:
        waiting, inserted = list(batches), 0

        async def work() -> None:
            nonlocal inserted
            while waiting:
                batch = waiting.pop(0)
                async with self.database.transaction() as tx:
                    done = await send(tx, batch)
                inserted += done

        server, client, began = self._server_cpu(), time.process_time(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(connections)))
        seconds, client = time.perf_counter() - began, time.process_time() - client
        used = self._server_cpu() - server if self.pid else None
        return Result(name, inserted, seconds, client, used, sent)

    def _server_cpu(self) -> float:
        if self.pid is None:
            return 0.0
        server = psutil.Process(self.pid)
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
        return sum(t.user + t.system for t in times)


def answers(facts: int) -> list[UsageFact]:
    return facts_of_all(records(facts // FACTS_A_RECORD))


def records(count: int) -> list[AnswerRecord]:
    """Answers of the last minutes: 20 projects, 3 models, 60 keys; each makes `FACTS_A_RECORD` facts."""
    now = time.time_ns() // 1000
    return [
        AnswerRecord(
            id=new_uuid7((now + n * 100) // 1000).bytes,
            project=f"proj_01kat5nb4e{n % 20:016d}",
            key=f"key_01kat5nb4e{n % 60:016d}",
            model=f"model-{n % 3}",
            endpoint=f"ep_01kat5nb4e{n % 3:016d}",
            replica="rep_1",
            site="local",
            capacity_class="on_demand",
            charge_by="tokens",
            prompt=100 + n % 900,
            cached=0,
            completion=1 + n % 500,
            egress_bytes=2_000 + n,
            t0=now + n * 100 - 800_000,
            t1=now + n * 100,
            counted="engine",
            status=200,
        )
        for n in range(count)
    ]


def _row(fact: UsageFact) -> tuple[object, ...]:
    return (
        fact.id, fact.t1, fact.t0, fact.meter.value, fact.quantity, fact.project, fact.resource, fact.dims.id,
    )  # fmt: skip


def print_table(results: Sequence[Result]) -> None:
    reference = results[0].rate
    print(f"{'':42}{'facts/s':>10}{'of COPY':>9}{'client µs':>11}{'server µs':>11}{'inserted':>10}")
    for r in results:
        server = f"{r.server / r.sent * 1e6:11.1f}" if r.server is not None else f"{'–':>11}"
        ratio = f"{r.rate / reference:8.2f}×"
        print(f"{r.name:42}{r.rate:>10,.0f}{ratio:>9}{r.client / r.sent * 1e6:>11.1f}{server}{r.inserted:>10,}")


if __name__ == "__main__":
    main()
