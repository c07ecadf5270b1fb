"""What Slurm's commands print, as values. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from skerry.compute.engines.base import NodeCondition, NodeReservation, NodeState

SQUEUE_FORMAT: Final = "%i|%T|%j|%r"
SINFO_FORMAT: Final = "%P|%N|%T|%c|%m|%o|%G|%E"
_MEGABYTE: Final = 1 << 20
_GPUS: Final = re.compile(r"(?:^|,)gpu(?::([^:,(]+))?:(\d+)")
_READY: Final = frozenset({"idle", "mixed", "allocated", "completing", "reserved", "planned"})
_DRAINED: Final = frozenset({"drained", "draining"})
_OVER: Final = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
        "REVOKED", "TIMEOUT",
    }
)  # fmt: skip
_QUEUED: Final = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})


@dataclass(frozen=True, slots=True)
class Job:
    """`state` and `reason` in Slurm's words."""

    id: int
    state: str
    name: str
    reason: str = ""

    @property
    def over(self) -> bool:
        return self.state in _OVER

    @property
    def queued(self) -> bool:
        return self.state in _QUEUED


def jobs(text: str) -> Sequence[Job]:
    """Of `squeue -h -t all -o SQUEUE_FORMAT`. Lines that are none of ours in form are left out."""
    found = []
    for line in text.splitlines():
        id, _, rest = line.strip().partition("|")
        fields = rest.split("|", 2)
        if id.isdigit() and len(fields) == 3:
            found.append(Job(int(id), fields[0], fields[1], "" if fields[2] == "None" else fields[2]))
    return found


def nodes(text: str, partition: str = "") -> Sequence[NodeState]:
    """Of `sinfo -h -N -o SINFO_FORMAT`: those of this partition, or of the default one (`main*`).

    Without GPUs a node's accelerators are its cores.
    """
    found: dict[str, NodeState] = {}
    for line in text.splitlines():
        within, _, rest = line.strip().partition("|")
        fields = rest.split("|", 6)
        if len(fields) != 7 or not (within.rstrip("*") == partition if partition else within.endswith("*")):
            continue
        name, state, cores, memory, address, gres, reason = fields
        gres = re.sub(r"\([^)]*\)", "", gres)  # sockets, which have commas in them
        kinds = _GPUS.findall(gres)
        gpus = sum(int(count) for _, count in kinds)
        condition = _condition(state)
        found[name] = NodeState(
            name=name,
            condition=condition,
            cores=int(cores.rstrip("+")),
            memory_bytes=int(memory.rstrip("+")) * _MEGABYTE,
            accelerators=tuple(range(gpus or int(cores.rstrip("+")))),
            shared=not gpus,
            reason="" if condition is NodeCondition.READY else _reason(state, reason),
            address=address,
            accelerator="+".join(sorted({kind for kind, count in kinds if kind and int(count)})),
        )
    return list(found.values())


def reservations(text: str) -> Sequence[NodeReservation]:
    """Of `scontrol show reservation -o` with SLURM_TIME_FORMAT=%s. Nodes as Slurm writes them: see `hosts`."""
    found = []
    for line in text.splitlines():
        fields = _fields(line)
        if "ReservationName" in fields:
            found.append(
                NodeReservation(
                    fields["ReservationName"],
                    hosts(fields.get("Nodes", "")),
                    _time(fields["StartTime"]),
                    _time(fields["EndTime"]),
                )
            )
    return found


def hosts(text: str) -> tuple[str, ...]:
    """The names in a host list such as `gpu[1-3,07],head`; sorted. Only one bracket in a name is known to us."""
    found: set[str] = set()
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\][^,]*)?", text):
        if (match := re.fullmatch(r"([^\[]*)\[([^\]]*)\](.*)", part)) is None:
            found.add(part)
            continue
        head, ranges, tail = match.groups()
        for one in ranges.split(","):
            first, _, last = one.partition("-")
            found.update(f"{head}{n:0{len(first)}d}{tail}" for n in range(int(first), int(last or first) + 1))
    return tuple(sorted(found - {"(null)"}))


def _fields(line: str) -> Mapping[str, str]:
    return dict(word.partition("=")[::2] for word in line.split())


def _time(text: str) -> datetime:
    return datetime.fromtimestamp(int(text), UTC)


def _condition(state: str) -> NodeCondition:
    plain = state.rstrip("*~#!%$@^-+")
    if "*" in state:  # it does not respond
        return NodeCondition.DOWN
    if plain in _DRAINED:
        return NodeCondition.DRAINED
    return NodeCondition.READY if plain in _READY else NodeCondition.DOWN


def _reason(state: str, reason: str) -> str:
    return reason if reason and reason != "none" else f"Slurm says: {state}"
