"""Partitions as VLANs (IEEE 802.1Q): a tagged interface on the node's own link, and the switch told to let the tag
pass.

The node side is `ip link … type vlan`. The switch side is a command of the operator's (Ansible, a vendor's CLI, an
API), given as a template with {action} (allow or remove), {vlan}, {node} and {partition}; it must succeed when
repeated.
"""

import ipaddress
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from skerry.compute.fabric import ip
from skerry.compute.fabric.base import Attachment, FabricError, Member, PartitionFull
from skerry.compute.fabric.identifiers import Identifiers
from skerry.compute.fabric.ip import Run

PREFIX: Final = "skv"
_ALIAS: Final = "skerry"
_FIELDS: Final = ("action", "vlan", "node", "partition")


class VlanFabric:
    """`link` carries the tags; `subnet` is this node's slice of every partition's addresses. A node has one member of a
    partition (it is handed over whole), so the interface is the member's."""

    def __init__(
        self,
        link: str,
        node: str,
        identifiers: Identifiers,
        subnet: str,
        switch: str = "",
        mtu: int = 9000,
        run: Run = ip.run,
        counters: Path = Path("/sys/class/net"),
    ) -> None:
        self._link = link
        self._node = node
        self._identifiers = identifiers
        self._subnet = ipaddress.ip_network(subnet)
        self._switch = _template(switch)
        self._mtu = mtu
        self._run = run
        self._counters = counters

    def attach(self, partition: str, member: str, pid: int | None = None) -> Attachment:
        vlan = self._identifiers.of(partition)
        name = f"{PREFIX}{vlan}"
        there = self._links().get(name)
        if there is not None:
            found = _parsed(there)
            if found is None or found[1] != member:
                raise PartitionFull(
                    f"{found[1] if found else 'something else'} already has {partition} on node {self._node}"
                )
            return self._attachment(partition, member, name, found[0])
        number = self._free()
        address = self._address(number)
        self._tell_switch("allow", vlan, partition)
        try:
            self._run(
                [
                    "ip",
                    "link",
                    "add",
                    "link",
                    self._link,
                    "name",
                    name,
                    "mtu",
                    str(self._mtu),
                    "type",
                    "vlan",
                    "id",
                    str(vlan),
                ]
            )
            self._run(["ip", "link", "set", name, "alias", f"{_ALIAS}:{number}:{partition}:{member}"])
            inside = [] if pid is None else ["nsenter", f"--net=/proc/{pid}/ns/net"]
            if pid is not None:
                self._run(["ip", "link", "set", name, "netns", str(pid)])
            self._run([*inside, "ip", "address", "add", address, "dev", name])
            self._run([*inside, "ip", "link", "set", name, "up"])
        except FabricError:
            self._remove(name)
            self._tell_switch("remove", vlan, partition)
            raise
        return self._attachment(partition, member, name, number)

    def detach(self, partition: str, member: str) -> None:
        vlan = self._identifiers.known().get(partition)
        if vlan is None:
            return
        entry = self._links().get(f"{PREFIX}{vlan}")
        found = None if entry is None else _parsed(entry)
        if found is not None and found[1] == member:
            self._remove(f"{PREFIX}{vlan}")
            self._tell_switch("remove", vlan, partition)

    def members(self, partition: str) -> Sequence[Member]:
        vlan = self._identifiers.known().get(partition)
        entry = self._links().get(f"{PREFIX}{vlan}")
        found = None if entry is None else _parsed(entry)
        return [] if found is None else [Member(found[1], self._address(found[0]).partition("/")[0])]

    def egress_bytes(self, attachment: Attachment) -> int:
        """What the tagged interface has sent. It includes what stays inside the partition on other nodes: where egress
        is sold, the operator's router in the partition counts it."""
        try:
            return int((self._counters / attachment.interface / "statistics/tx_bytes").read_text())
        except (OSError, ValueError) as error:
            raise FabricError(f"{attachment.member} is not attached any more") from error

    def keep(self, lives: Callable[[str], bool]) -> Sequence[str]:
        gone = []
        partitions = {number: name for name, number in self._identifiers.known().items()}
        for name, entry in self._links().items():
            found = _parsed(entry)
            if found is not None and not lives(found[1]):
                self._remove(name)
                vlan = int(name.removeprefix(PREFIX))
                self._tell_switch("remove", vlan, partitions.get(vlan, ""))
                gone.append(found[1])
        return gone

    def _attachment(self, partition: str, member: str, name: str, number: int) -> Attachment:
        return Attachment(partition, member, name, self._address(number), self._mtu)

    def _address(self, number: int) -> str:
        return f"{self._subnet.network_address + number}/{self._subnet.prefixlen}"

    def _free(self) -> int:
        taken = {found[0] for entry in self._links().values() if (found := _parsed(entry)) is not None}
        for number in range(2, self._subnet.num_addresses - 1):
            if number not in taken:
                return number
        raise PartitionFull(f"all addresses of {self._subnet} are taken on node {self._node}")

    def _links(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self._run(["ip", "-json", "link", "show"]) or "[]")
        return {entry["ifname"]: entry for entry in found if entry["ifname"].startswith(PREFIX)}

    def _remove(self, name: str) -> None:
        if name in self._links():
            self._run(["ip", "link", "delete", name])

    def _tell_switch(self, action: str, vlan: int, partition: str) -> None:
        values = {"action": action, "vlan": str(vlan), "node": self._node, "partition": partition}
        if self._switch:
            self._run([word.format(**values) for word in self._switch])


def _template(text: str) -> list[str]:
    """Words of the command; no shell sees them. Raises ValueError for a field there is not."""
    words = shlex.split(text)
    for word in words:
        word.format(**dict.fromkeys(_FIELDS, ""))
    return words


def _parsed(entry: dict[str, Any]) -> tuple[int, str] | None:
    """Number and member, of an interface that is ours."""
    parts = str(entry.get("ifalias", "")).split(":", 3)
    if len(parts) != 4 or parts[0] != _ALIAS or not parts[1].isdigit():
        return None
    return int(parts[1]), parts[3]
