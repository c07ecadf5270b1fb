"""Whether a Slurm is set up so that Skerry can use it, in words for its operators. Pure."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

from skerry.compute.engines.base import NodeState

_CONSUMABLE: Final = ("select/cons_tres", "select/cons_res")
_KILL_WAIT_SECONDS: Final = 2


def settings_of(text: str) -> Mapping[str, str]:
    """Of `scontrol show config`."""
    pairs = (line.partition("=")[::2] for line in text.splitlines())
    return {name.strip(): value.strip() for name, value in pairs if value}


def problems(config: Mapping[str, str], nodes: Sequence[NodeState], partition: str, *, shared: bool) -> tuple[str, ...]:
    """What is to be changed, and where. `shared`: engine and nodes have a folder together."""
    found = []
    if not nodes:
        which = f"partition {partition} of Slurm has" if partition else "Slurm's default partition has"
        found.append(f"{which} no nodes: name one with SKERRY_SLURM_PARTITION.")
    if config.get("SelectType", _CONSUMABLE[0]) not in _CONSUMABLE:
        found.append("slurm.conf: set SelectType=select/cons_tres, so that workloads can share a node.")
    if config.get("DisableRootJobs", "No").lower() == "yes":
        found.append("slurm.conf: set DisableRootJobs=NO; tasks are started by root and become another user.")
    kill_wait = config.get("KillWait", "30 sec").split()[0]
    if kill_wait.isdigit() and int(kill_wait) < _KILL_WAIT_SECONDS:
        found.append(f"slurm.conf: set KillWait to {_KILL_WAIT_SECONDS} or more.")
    away = [node.name for node in nodes if not is_here(node.address)]
    if away and not shared:
        found.append(
            f"{away[0]} is another machine: set SKERRY_SLURM_SHARED to a folder that all nodes and this machine share."
        )
    return tuple(found)


def is_here(address: str) -> bool:
    """Whether it is a loopback address: virtual nodes on the machine of Slurm's controller and ours."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
