"""Partitions as InfiniBand partition keys: the subnet manager's `partitions.conf` says which ports are in which
partition.

Part of that file, between two marks, is ours. After a change opensm is told by the operator's command (usually
`pkill -HUP opensm`), and the node waits until the key shows on its port. Members are full members (the key's top
bit), so that nodes of one partition reach each other; the default partition is made limited for them by the operator.
"""

import fcntl
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.compute.fabric import ip
from skerry.compute.fabric.base import Attachment, FabricError, Member
from skerry.compute.fabric.identifiers import Identifiers
from skerry.compute.fabric.ip import Run

BEGIN: Final = "# skerry: begin (do not edit between these marks)"
END: Final = "# skerry: end"
LOW_KEY: Final = 0x0002
HIGH_KEY: Final = 0x7FFE
FULL_MEMBER: Final = 0x8000
MTU: Final = 4092
_NOTE: Final = re.compile(r"^# (?P<guid>0x[0-9a-f]{16}) (?P<member>\S+) (?P<partition>\S+)$")


@dataclass(frozen=True, slots=True)
class Port:
    """This node's port: `guid` as in partitions.conf, `keys` its folder of partition keys, `interface` of IP over
    it."""

    guid: str
    keys: Path
    interface: str = "ib0"


@dataclass(frozen=True, slots=True)
class _Entry:
    guid: str
    member: str
    partition: str


class PKeyFabric:
    """`conf` is opensm's partitions.conf, on the subnet manager's machine or a folder shared with it."""

    def __init__(
        self,
        conf: Path,
        port: Port,
        identifiers: Identifiers,
        reload: str,
        run: Run = ip.run,
        counters: Path = Path("/sys/class/net"),
        wait_seconds: float = 30.0,
    ) -> None:
        self._conf = conf
        self._port = port
        self._identifiers = identifiers
        self._reload = shlex.split(reload)
        self._run = run
        self._counters = counters
        self._wait_seconds = wait_seconds

    def attach(self, partition: str, member: str, pid: int | None = None) -> Attachment:
        key = self._identifiers.of(partition)
        self._change(lambda entries: {*entries, _Entry(self._port.guid, member, partition)})
        self._wait_for(key)
        return self._attachment(partition, member, key)

    def detach(self, partition: str, member: str) -> None:
        self._change(lambda entries: entries - {_Entry(self._port.guid, member, partition)})

    def members(self, partition: str) -> Sequence[Member]:
        with self._locked():
            entries = _entries(self._read())
        found = [entry for entry in entries if entry.partition == partition and entry.guid == self._port.guid]
        return [Member(entry.member, entry.guid) for entry in sorted(found, key=lambda entry: entry.member)]

    def egress_bytes(self, attachment: Attachment) -> int:
        """What left by IP over InfiniBand. RDMA stays inside the partition: a key does not pass a router."""
        try:
            return int((self._counters / self._port.interface / "statistics/tx_bytes").read_text())
        except (OSError, ValueError) as error:
            raise FabricError(f"{attachment.member}: {self._port.interface} has no counters") from error

    def keep(self, lives: Callable[[str], bool]) -> Sequence[str]:
        gone: list[str] = []

        def changed(entries: set[_Entry]) -> set[_Entry]:
            dead = {entry for entry in entries if entry.guid == self._port.guid and not lives(entry.member)}
            gone.extend(sorted(entry.member for entry in dead))
            return entries - dead

        self._change(changed)
        return gone

    def _attachment(self, partition: str, member: str, key: int) -> Attachment:
        return Attachment(partition, member, f"{self._port.interface}.{key | FULL_MEMBER:04x}", self._port.guid, MTU)

    def _change(self, change: Callable[[set[_Entry]], set[_Entry]]) -> None:
        """Rewrite our part of the file, whole or not at all, and tell the subnet manager if it is another one."""
        with self._locked():
            text = self._read()
            entries = change(_entries(text))
            keys = {entry.partition: self._identifiers.of(entry.partition) for entry in entries}
            wanted = _with_part(text, _part(entries, keys))
            if wanted == text:
                return
            part = self._conf.with_suffix(".part")
            part.write_text(wanted)
            part.replace(self._conf)
            try:
                self._run(self._reload)
            except FabricError:
                self._conf.write_text(text)
                raise

    def _wait_for(self, key: int) -> None:
        """Until the subnet manager has given our port the key."""
        deadline = time.monotonic() + self._wait_seconds
        wanted = key | FULL_MEMBER
        while wanted not in self._present():
            if time.monotonic() > deadline:
                raise FabricError(
                    f"the subnet manager did not give port {self._port.guid} the key 0x{wanted:04x} within"
                    f" {self._wait_seconds:g} s: look at opensm's log"
                )
            time.sleep(0.05)

    def _present(self) -> set[int]:
        found = set()
        for entry in self._port.keys.iterdir() if self._port.keys.is_dir() else ():
            try:
                found.add(int(entry.read_text().strip(), 16))
            except (OSError, ValueError):
                continue
        return found

    def _read(self) -> str:
        return self._conf.read_text() if self._conf.exists() else ""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._conf.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _entries(text: str) -> set[_Entry]:
    """Who is in, as our part's comments say."""
    inside = text.partition(BEGIN)[2].partition(END)[0]
    notes = [match for line in inside.splitlines() if (match := _NOTE.match(line)) is not None]
    return {_Entry(note["guid"], note["member"], note["partition"]) for note in notes}


def _part(entries: set[_Entry], keys: dict[str, int]) -> str:
    lines = []
    for partition in sorted(keys):
        of_it = sorted(
            (entry for entry in entries if entry.partition == partition), key=lambda entry: (entry.guid, entry.member)
        )
        lines += [f"# {entry.guid} {entry.member} {entry.partition}" for entry in of_it]
        ports = ", ".join(f"{guid}=full" for guid in dict.fromkeys(entry.guid for entry in of_it))
        lines.append(f"skerry_{keys[partition]:04x}=0x{keys[partition] | FULL_MEMBER:04x}, ipoib: {ports};")
    return "\n".join([BEGIN, *lines, END]) + "\n" if lines else ""


def _with_part(text: str, part: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    after = rest.partition(END + "\n")[2] if begin else ""
    separator = "\n" if before and not before.endswith("\n") else ""
    return before + separator + part + after
