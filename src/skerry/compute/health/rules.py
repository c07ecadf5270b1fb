"""What signs mean, and what they come to. Pure.

Xids and what to do about them: NVIDIA, "XID Errors" (GPU deployment and management documentation).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from skerry.compute.engines.base import NodeCondition, NodeState
from skerry.compute.health.model import Action, Policy, Severity, Sign, Signal, SignalKind, Verdict
from skerry.compute.model import Outcome

RECENT: Final = timedelta(hours=24)
SUSPECTS: Final = 3
"""So many suspect signs within a day, counted with their repetitions, make a node failing."""
DOWN_AFTER: Final = timedelta(seconds=60)
"""A node whose engine has not seen it for so long is not there."""
HOT_CELSIUS: Final = 90

_XIDS: Final[Mapping[int, tuple[Severity, Action, str]]] = {
    13: (Severity.NOTE, Action.INSPECT, "graphics engine exception, most often the program's"),
    31: (Severity.NOTE, Action.INSPECT, "GPU memory page fault, most often the program's"),
    43: (Severity.NOTE, Action.INSPECT, "GPU stopped processing, most often the program's"),
    45: (Severity.NOTE, Action.INSPECT, "preemptive cleanup after another error"),
    48: (Severity.FAILING, Action.RESET, "double bit ECC error"),
    61: (Severity.FAILING, Action.RESET, "internal microcontroller breakpoint"),
    62: (Severity.FAILING, Action.RESET, "internal microcontroller halt"),
    63: (Severity.SUSPECT, Action.RESET, "a memory row was remapped"),
    64: (Severity.FAILING, Action.REPLACE, "a memory row could not be remapped"),
    74: (Severity.FAILING, Action.RESET, "NVLink error"),
    79: (Severity.FAILING, Action.REBOOT, "the GPU has fallen off the bus"),
    92: (Severity.SUSPECT, Action.INSPECT, "many corrected ECC errors"),
    94: (Severity.SUSPECT, Action.RESET, "contained ECC error"),
    95: (Severity.FAILING, Action.RESET, "uncontained ECC error"),
    119: (Severity.FAILING, Action.RESET, "the GPU's system processor does not answer"),
    120: (Severity.FAILING, Action.RESET, "the GPU's system processor has failed"),
}

_EXITS: Final[Sequence[tuple[re.Pattern[str], str, Severity, Action, str]]] = (
    (
        re.compile(r"uncorrectable ECC error", re.IGNORECASE),
        "uncorrectable_ecc",
        Severity.FAILING,
        Action.RESET,
        "work ended with an uncorrectable ECC error",
    ),
    (
        re.compile(r"GPU (has fallen off the bus|is lost)", re.IGNORECASE),
        "gpu_lost",
        Severity.FAILING,
        Action.REBOOT,
        "work lost its GPU",
    ),
    (
        re.compile(r"NCCL.*(remote process exited|unhandled system error|IB.*(error|timeout))", re.IGNORECASE),
        "nccl",
        Severity.SUSPECT,
        Action.INSPECT,
        "work lost touch with its peers",
    ),
    (
        re.compile(r"No space left on device|Read-only file system|Input/output error"),
        "disk",
        Severity.SUSPECT,
        Action.INSPECT,
        "the node's disk refused work",
    ),
)


def xid(number: int, device: str) -> Sign:
    """An Xid that is not in the table is a suspect one."""
    severity, action, words = _XIDS.get(number, (Severity.SUSPECT, Action.INSPECT, "an error of the driver"))
    return Sign(SignalKind.XID, f"{number}:{device}", severity, f"Xid {number} on {device}: {words}", action)


def of_exit(outcome: Outcome | None, message: str, *, alone: bool) -> list[Sign]:
    """What the end of an attempt says of its node. `alone`: it had one node, so that it is known which."""
    signs = [
        Sign(SignalKind.EXIT, code, severity if alone else Severity.NOTE, words, action)
        for pattern, code, severity, action, words in _EXITS
        if pattern.search(message)
    ]
    if outcome is Outcome.LOST and not signs:
        severity = Severity.SUSPECT if alone else Severity.NOTE
        how = message.partition(";")[0].partition("\n")[0]  # what the customer's log says is theirs alone
        signs = [Sign(SignalKind.EXIT, "lost", severity, f"work was lost: {how or 'it is not known how'}")]
    return signs


def of_state(state: NodeState, down_for: timedelta) -> list[Sign]:
    """What its engine says of a node, which has been down for so long; not down: 0."""
    signs = [sign for raw in state.signals if (sign := _of_hardware(*raw)) is not None]
    if state.condition is NodeCondition.DOWN and down_for >= DOWN_AFTER:
        words = f"its engine has not seen it for {int(down_for.total_seconds())} s"
        detail = f"{words} ({state.reason})" if state.reason else words
        signs.append(Sign(SignalKind.ENGINE, "down", Severity.FAILING, detail, Action.REBOOT))
    return signs


def _of_hardware(kind: str, code: str, detail: str) -> Sign | None:
    """A reading of the hardware (`readings.py`): its kind, a code, and words."""
    match kind:
        case "xid":
            number, _, device = code.partition(":")
            return xid(int(number), device) if number.isdigit() else None
        case "ecc":
            return Sign(SignalKind.ECC, code, Severity.FAILING, detail, Action.RESET)
        case "rows":
            return Sign(SignalKind.ECC, code, Severity.FAILING, detail, Action.REPLACE)
        case "thermal":
            return Sign(SignalKind.THERMAL, code, Severity.SUSPECT, detail, Action.INSPECT)
        case "link":
            return Sign(SignalKind.LINK, code, Severity.SUSPECT, detail, Action.RESET)
    return None


def judge(signals: Iterable[Signal], now: datetime, since: datetime | None) -> Verdict | None:
    """What the signs of one node come to. `since`: when its last case was closed; older ones do not count."""
    begin = max(now - RECENT, since) if since is not None else now - RECENT
    recent = [one for one in signals if one.last_at > begin]
    failing = [one for one in recent if one.severity is Severity.FAILING]
    if failing:
        worst = max(failing, key=lambda one: one.last_at)
        return Verdict(Severity.FAILING, worst.action, worst)
    suspects = [one for one in recent if one.severity is Severity.SUSPECT]
    if not suspects:
        return None
    last = max(suspects, key=lambda one: one.last_at)
    many = sum(one.count for one in suspects) >= SUSPECTS
    return Verdict(Severity.FAILING if many else Severity.SUSPECT, last.action, last)


def goes_by_itself(policy: Policy, action: Action) -> bool:
    """Whether a case is approved without asking: never one that needs hands."""
    return policy is Policy.AUTO and action in (Action.RESET, Action.REBOOT)
