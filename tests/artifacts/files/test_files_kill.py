"""`kill -9` of the process that takes files in, deletes, sweeps and meters: nothing half, nothing twice.

`SKERRY_ROUNDS` and `SKERRY_SEED` make it longer or repeat it.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from sqlalchemy import text

from skerry.artifacts.files.sweeper import LOST_AFTER, FileSweeper
from tests.artifacts.files.filing import stored

ROUNDS = int(os.environ.get("SKERRY_ROUNDS", "3"))
SEED = int(os.environ.get("SKERRY_SEED", "1"))
HASTE = 3600
"""Seconds that pass in the process in one of ours: each is an hour."""

SCRIPT = """
import asyncio, json, random, sys, time
from datetime import datetime, timedelta
from pathlib import Path

from skerry.artifacts.files.model import FileLimits, Purpose
from skerry.artifacts.files.service import Files
from skerry.artifacts.files.storage import LocalStorage
from skerry.artifacts.files.sweeper import FileSweeper
from skerry.db.database import Database
from skerry.identity.service import Identity
from skerry.kernel.errors import SkerryError
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring

url, folder, key, begin, haste, seed = sys.argv[1:]
chance = random.Random(int(seed))

class Hasty:
    def __init__(self):
        self.begin, self.started = datetime.fromisoformat(begin), time.monotonic()
    def now(self):
        return self.begin + timedelta(seconds=(time.monotonic() - self.started) * int(haste))

async def main():
    db, clock = Database(url, pool_size=4), Hasty()
    events = EventLog(clock)
    identity = Identity(db, clock, Keyring([("k1", b"a secret of the tests")]), events)
    files = Files(db, clock, events, identity, Metering(db, clock), LocalStorage(Path(folder)),
                  FileLimits(2**30, 2**40, 10**6), [Purpose("notes")])
    who = await identity.authenticate(key)
    made = []

    async def bytes_of():
        for _ in range(chance.randrange(1, 6)):
            yield chance.randbytes(chance.choice((10, 1000, 1500_000)))
            await asyncio.sleep(0)

    async def uploads():
        while True:
            try:
                made.append(await files.create(who, filename="a", purpose="notes", chunks=bytes_of(),
                                               expires_after=chance.choice((None, 3600, 7200))))
            except SkerryError:
                pass

    async def deletes():
        while True:
            await asyncio.sleep(chance.random() / 20)
            if made:
                try:
                    await files.delete(who, made.pop(chance.randrange(len(made))).id)
                except SkerryError:
                    pass

    async def sweeps():
        while True:
            await FileSweeper(files).sweep_once()
            await asyncio.sleep(0.02)

    print("ready", flush=True)
    await asyncio.gather(uploads(), uploads(), deletes(), sweeps())

asyncio.run(main())
"""


async def test_a_killed_process_leaves_nothing_half_and_counts_nothing_twice(
    files, identity, people, database_url, clock, folder
):
    chance = random.Random(SEED)
    print(f"seed {SEED}, {ROUNDS} rounds")
    made = (await identity.bootstrap()).project_key or people.customer_secret
    at = datetime.now(UTC)
    for number in range(ROUNDS):
        seconds = 0.1 + chance.random() * 1.5
        at += _run_and_kill(database_url, folder, made, at, seed=chance.randrange(2**31), seconds=seconds)
        # A little later, and nothing is left of what was under way.
        at += LOST_AFTER + timedelta(hours=2)
        clock.at = at
        # Drafts carry the time of the machine, which the process was far ahead of.
        await FileSweeper(files).sweep_once()
        await _check(files, folder, f"round {number} of seed {SEED}")
    assert await _count(files, "SELECT count(*) FROM files WHERE status = 'deleted'")
    assert await _count(files, "SELECT count(*) FROM usage_facts")
    assert not await _count(files, "SELECT count(*) FROM usage_rejected")


def _run_and_kill(url: str, folder: Path, key: str, at: datetime, *, seed: int, seconds: float) -> timedelta:
    arguments = [url, str(folder), key, at.isoformat(), str(HASTE), str(seed)]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stdout=subprocess.PIPE)
    started = time.monotonic()
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(seconds)  # the moment of the kill is the seed's choice
    assert process.poll() is None, "it ended by itself"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return timedelta(seconds=(time.monotonic() - started) * HASTE)


async def _check(files, folder: Path, where: str) -> None:
    async with files.db.transaction() as tx:
        rows = list(await tx.execute(text("SELECT * FROM files")))
        usage = list(await tx.execute(text("SELECT resource, quantity, t0, t1 FROM usage_facts ORDER BY t0")))
    live = [row for row in rows if row.deleted_at is None]
    assert stored(folder) == sorted(row.id for row in live), where
    for row in live:
        path = files.storage.path(row.id)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256, where
    assert {row.status for row in live} <= {"uploaded"}, where
    for row in rows:
        own = [fact for fact in usage if fact.resource == row.id]
        if row.metered_through is None:
            assert own == [], where
            continue
        seconds = (row.metered_through - row.created_at) // timedelta(seconds=1)
        assert sum(fact.quantity for fact in own) == row.bytes * seconds, (where, json.dumps(row.facts))
        assert all(before.t1 <= after.t0 for before, after in pairwise(own)), where


async def _count(files, query: str) -> int:
    async with files.db.transaction() as tx:
        return (await tx.execute(text(query))).scalar_one()
