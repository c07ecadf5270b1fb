"""Numbers of a small range (VLANs, partition keys), one for each partition, the same on all nodes that share the
table."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from skerry.compute.fabric.base import PartitionFull


class Identifiers:
    """A table in a file, under a lock. `low` and `high` are both part of the range."""

    def __init__(self, path: Path, low: int, high: int) -> None:
        self._path = path
        self._low = low
        self._high = high

    def of(self, partition: str) -> int:
        """Its number, taken now if it has none. Raises PartitionFull."""
        with self._table() as table:
            if partition not in table:
                free = next(
                    (number for number in range(self._low, self._high + 1) if number not in table.values()), None
                )
                if free is None:
                    raise PartitionFull(f"all numbers from {self._low} to {self._high} are taken by other partitions")
                table[partition] = free
            return table[partition]

    def known(self) -> dict[str, int]:
        with self._table() as table:
            return dict(table)

    def release(self, partition: str) -> None:
        with self._table() as table:
            table.pop(partition, None)

    @contextmanager
    def _table(self) -> Iterator[dict[str, int]]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            table = cast(dict[str, int], json.loads(self._path.read_text())) if self._path.exists() else {}
            before = dict(table)
            yield table
            if table != before:
                part = self._path.with_suffix(".part")
                part.write_text(json.dumps(table, indent=1, sort_keys=True))
                part.replace(self._path)
        finally:
            os.close(descriptor)
