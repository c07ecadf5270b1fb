"""Doubles of a node's links, a switch and a subnet manager: they answer like the real ones and keep what they were
told."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from skerry.compute.fabric.base import FabricError


class FakeLinks:
    """`ip link` and `ip address`, with a switch's command `switch-config`."""

    def __init__(self, counters: Path) -> None:
        self.links: dict[str, dict[str, object]] = {"eth1": {"ifname": "eth1"}}
        self.allowed: set[tuple[str, str]] = set()
        self.fails_at: str | None = None
        self._counters = counters

    def __call__(self, arguments: Sequence[str], text: str = "") -> str:
        line = shlex.join(arguments)
        if self.fails_at is not None and self.fails_at in line:
            raise FabricError(f"{line}: refused")
        words = list(arguments)
        if words[0] == "switch-config":
            action, vlan, node = words[1:4]
            (self.allowed.add if action == "allow" else self.allowed.discard)((node, vlan))
            return ""
        if words[0] == "nsenter":
            words = words[2:]
        assert words[0] == "ip", line
        match words[1:]:
            case ["-json", "link", "show"]:
                return json.dumps(list(self.links.values()))
            case ["link", "add", "link", parent, "name", name, *_]:
                if parent not in self.links or name in self.links:
                    raise FabricError(f"{line}: File exists")
                self.links[name] = {"ifname": name}
                folder = self._counters / name / "statistics"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "tx_bytes").write_text("0")
            case ["link", "set", name, "alias", alias]:
                self.links[name]["ifalias"] = alias
            case ["link", "delete", name]:
                del self.links[name]
            case ["link", "set", name, *_] | ["address", "add", _, "dev", name]:
                assert name in self.links, line
            case _:
                raise AssertionError(f"not known: {line}")
        return ""


class FakeSubnetManager:
    """opensm: reads partitions.conf when it is told, and gives ports their keys."""

    def __init__(self, conf: Path, ports: dict[str, Path]) -> None:
        self.conf = conf
        self.fails = False
        self.deaf = False
        self._ports = ports

    def __call__(self, arguments: Sequence[str], text: str = "") -> str:
        assert list(arguments) == ["pkill", "-HUP", "opensm"]
        if self.fails:
            raise FabricError("pkill: no process found")
        if self.deaf:
            return ""
        for guid, folder in self._ports.items():
            keys = ["0x7fff"]
            for line in self.conf.read_text().splitlines():
                name, sign, rest = line.partition("=0x")
                if sign and not name.startswith("#") and f"{guid}=full" in rest:
                    keys.append("0x" + rest[:4])
            for entry in folder.iterdir():
                entry.unlink()
            for number, key in enumerate(keys):
                (folder / str(number)).write_text(key + "\n")
        return ""
