"""The fabric of one machine: a partition is a network namespace of its own, with one bridge in it.

    node ── (nothing) ── namespace skp-…: bridge `fabric` ═ m-… ┬ fabric0 ─ member A
                                                               └ fabric0 ─ member B
                         the same namespace:         u-… ── uplink0 ─ member A     (a link each, not bridged)

The bridge has no address and no way to the node, so partitions cannot reach each other or the node whatever a member
does, and no packet filter is needed. What is to leave goes over the member's uplink, where only the node's own forwards
and proxy listen: its counter is the egress. Nothing but the kernel remembers who is in: a member's links go with its
namespace, and an address is free again when its link is gone.
"""

import fcntl
import hashlib
import ipaddress
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from skerry.compute.fabric import ip
from skerry.compute.fabric.base import Attachment, FabricError, Member, PartitionFull, Uplink

PREFIX: Final = "skp-"
BRIDGE: Final = "fabric"
INSIDE: Final = "fabric0"
INSIDE_UPLINK: Final = "uplink0"
MTU: Final = 1500
_ALIAS: Final = "skerry"
_UPLINKS: Final = ipaddress.ip_network("169.254.0.0/16")
_FIRST: Final = 2
"""The first address is kept for a router, should the partition ever have one."""


class NamespaceFabric:
    """Partitions as namespaces of this node. `subnet` is the members' network, the same in each partition."""

    def __init__(self, subnet: str = "10.201.0.0/16", locks: Path = Path("/run/skerry/fabric")) -> None:
        self._subnet = ipaddress.ip_network(subnet)
        self._locks = locks

    def attach(self, partition: str, member: str, pid: int | None = None) -> Attachment:
        if pid is None:
            raise FabricError("a member of this fabric is a process in a network namespace of its own")
        name = namespace_of(partition)
        with self._locked(name):
            _make(name)
            taken = {entry["ifname"]: entry for entry in ip.links(name)}
            if (port := taken.get(_port(member))) is not None:
                return self._attachment(partition, member, _number(port))
            number = self._free(taken.values())
            try:
                self._connect(name, member, number, pid)
            except FabricError:
                _remove(name, member)
                raise
            return self._attachment(partition, member, number)

    def detach(self, partition: str, member: str) -> None:
        name = namespace_of(partition)
        with self._locked(name):
            if not ip.named(name).exists():
                return
            _remove(name, member)
            self._drop_if_empty(name)

    def members(self, partition: str) -> Sequence[Member]:
        name = namespace_of(partition)
        return self._members(name) if ip.named(name).exists() else []

    def egress_bytes(self, attachment: Attachment) -> int:
        assert attachment.uplink is not None
        try:
            counted = ip.received(ip.named(attachment.namespace), attachment.uplink.interface)
        except OSError as error:
            raise FabricError(f"the partition of {attachment.member} is gone: {error}") from error
        if counted is None:
            raise FabricError(f"{attachment.member} is not attached any more")
        return counted

    def keep(self, lives: Callable[[str], bool]) -> Sequence[str]:
        gone: list[str] = []
        for path in ip.NAMED.glob(f"{PREFIX}*"):
            with self._locked(path.name):
                if not path.exists():
                    continue
                dead = [member.name for member in self._members(path.name) if not lives(member.name)]
                for member in dead:
                    _remove(path.name, member)
                self._drop_if_empty(path.name)
                gone += dead
        return gone

    def _connect(self, name: str, member: str, number: int, pid: int) -> None:
        port, up, uplink = _port(member), _up(member), _uplink(number, member)
        bits = self._subnet.prefixlen
        address = self._subnet.network_address + number
        ip.batch(
            [
                f"link add {port} mtu {MTU} type veth peer name {INSIDE} mtu {MTU} netns {pid}",
                f"link set {port} alias {_ALIAS}:{number}:{member}",
                f"link set {port} master {BRIDGE}",
                f"link set {port} up",
                f"link add {up} type veth peer name {INSIDE_UPLINK} netns {pid}",
                f"link set {up} alias {_ALIAS}:{number}:{member}",
                f"address add {uplink.gateway}/30 dev {up}",
                f"link set {up} up",
            ],
            name,
        )
        inner = "\n".join(
            [
                "link set lo up",
                f"address add {address}/{bits} dev {INSIDE}",
                f"link set {INSIDE} up",
                f"address add {uplink.inside}/30 dev {INSIDE_UPLINK}",
                f"link set {INSIDE_UPLINK} up",
                f"route add default via {uplink.gateway}",
            ]
        )
        ip.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"], inner + "\n")

    def _attachment(self, partition: str, member: str, number: int) -> Attachment:
        address = f"{self._subnet.network_address + number}/{self._subnet.prefixlen}"
        return Attachment(partition, member, INSIDE, address, MTU, _uplink(number, member), namespace_of(partition))

    def _free(self, entries: Any) -> int:
        """The lowest number that no member has."""
        taken = {_number(entry) for entry in entries if entry.get("ifalias", "").startswith(f"{_ALIAS}:")}
        most = min(self._subnet.num_addresses, _UPLINKS.num_addresses // 4) - 1
        for number in range(_FIRST, most):
            if number not in taken:
                return number
        raise PartitionFull(f"all {most - _FIRST} addresses of the partition are taken on this node")

    def _members(self, name: str) -> list[Member]:
        found = []
        for entry in ip.links(name):
            alias = entry.get("ifalias", "")
            if alias.startswith(f"{_ALIAS}:") and entry["ifname"].startswith("m-"):
                number, member = alias.split(":", 2)[1:]
                found.append(Member(member, str(self._subnet.network_address + int(number))))
        return sorted(found, key=lambda member: member.name)

    def _drop_if_empty(self, name: str) -> None:
        if not self._members(name):
            ip.run(["ip", "netns", "delete", name])

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One change of a partition at a time on this node, by whichever process."""
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._locks / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def namespace_of(partition: str) -> str:
    """Names of namespaces and interfaces are short, those of projects need not be."""
    return PREFIX + _short(partition, 12)


def _make(name: str) -> None:
    """The namespace with its bridge; one that a crash left half made is finished."""
    path = ip.named(name)
    if not path.exists():
        ip.run(["ip", "netns", "add", name])
    elif not _is_namespace(path):
        ip.run(["ip", "netns", "delete", name])
        ip.run(["ip", "netns", "add", name])
    if not any(entry["ifname"] == BRIDGE for entry in ip.links(name)):
        ip.batch(["link set lo up", f"link add {BRIDGE} mtu {MTU} type bridge", f"link set {BRIDGE} up"], name)
    # A new namespace may begin with what the node itself has: here nothing is passed on from link to link.
    with ip.inside(path):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")


def _is_namespace(path: Path) -> bool:
    try:
        with ip.inside(path):
            return True
    except (OSError, FabricError):
        return False


def _remove(name: str, member: str) -> None:
    present = {entry["ifname"] for entry in ip.links(name)}
    for interface in (_port(member), _up(member)):
        if interface not in present:
            continue
        try:
            ip.run(["ip", "-n", name, "link", "delete", interface])
        except FabricError:
            # The member's own namespace has just ended, and took its link along.
            if any(entry["ifname"] == interface for entry in ip.links(name)):
                raise


def _number(entry: Any) -> int:
    return int(entry["ifalias"].split(":", 2)[1])


def _uplink(number: int, member: str) -> Uplink:
    base = _UPLINKS.network_address + 4 * number
    return Uplink(interface=_up(member), inside=str(base + 2), gateway=str(base + 1))


def _port(member: str) -> str:
    return "m-" + _short(member, 10)


def _up(member: str) -> str:
    return "u-" + _short(member, 10)


def _short(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
