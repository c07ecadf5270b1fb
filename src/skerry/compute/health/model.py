"""Values of the health of nodes: what was noticed, what was tried, and what is to be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from skerry.kernel.ids import NodeId, WorkloadId
from skerry.kernel.states import StateMachine


class SignalKind(StrEnum):
    """Where a sign of trouble comes from."""

    XID = "xid"
    """An error of NVIDIA's driver, by its number."""
    ECC = "ecc"
    """Errors in a GPU's memory."""
    THERMAL = "thermal"
    LINK = "link"
    """A GPU's way to its fellows or to the machine."""
    EXIT = "exit"
    """How work ended on the node."""
    CHECK = "check"
    """A check that failed."""
    ENGINE = "engine"
    """What the node's engine says of it."""


class Severity(StrEnum):
    """What a sign means for the node."""

    NOTE = "note"
    """Worth keeping: most often a fault of the program, or one that is over."""
    SUSPECT = "suspect"
    """By itself no reason to act; several of them within a day are."""
    FAILING = "failing"
    """Nothing new may be given to this node."""


class Action(StrEnum):
    """What is to be done to a node. The operator's command is told the word."""

    RESET = "reset"
    """Reset the GPU."""
    REBOOT = "reboot"
    REPLACE = "replace"
    """Parts, or all of it: a case for hands."""
    INSPECT = "inspect"
    """Nobody knows yet what it is."""


class Check(StrEnum):
    """What can be run to find out."""

    BURN_IN = "burn_in"
    """Work whose result is known, on all accelerators and the memory."""
    BANDWIDTH = "bandwidth"
    """As much as two nodes can send each other."""


class RemediationStatus(StrEnum):
    """How far it is. The node is drained from the first moment on."""

    PROPOSED = "proposed"
    """Waits for an operator, unless the policy is `auto`."""
    APPROVED = "approved"
    """Waits until the node is empty, and then for the operator's command, or hands."""
    RUNNING = "running"
    CHECKING = "checking"
    """A burn-in says whether it helped."""
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"


REMEDIATION_TRANSITIONS: Final = StateMachine(
    {
        RemediationStatus.PROPOSED: {RemediationStatus.APPROVED, RemediationStatus.REJECTED},
        RemediationStatus.APPROVED: {
            RemediationStatus.RUNNING,
            RemediationStatus.CHECKING,
            RemediationStatus.REJECTED,
        },
        RemediationStatus.RUNNING: {RemediationStatus.CHECKING, RemediationStatus.FAILED},
        RemediationStatus.CHECKING: {RemediationStatus.DONE, RemediationStatus.FAILED},
        RemediationStatus.DONE: set(),
        RemediationStatus.FAILED: set(),
        RemediationStatus.REJECTED: set(),
    }
)
OPEN: Final = (
    RemediationStatus.PROPOSED,
    RemediationStatus.APPROVED,
    RemediationStatus.RUNNING,
    RemediationStatus.CHECKING,
)


class Policy(StrEnum):
    """Who decides about remediations."""

    APPROVE = "approve"
    AUTO = "auto"


class ProbeOutcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    YIELDED = "yielded"
    """Somebody wanted the node: nothing was learnt, and it is tried again later."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What was noticed, before it is kept. `code` tells it from others of its kind on the same node."""

    kind: SignalKind
    code: str
    severity: Severity
    detail: str
    action: Action = Action.INSPECT


@dataclass(frozen=True, slots=True)
class Signal:
    """A sign that was kept. The same one within an hour is counted, not kept again."""

    id: str
    node: NodeId
    hostname: str
    kind: SignalKind
    code: str
    severity: Severity
    detail: str
    action: Action
    at: datetime
    last_at: datetime
    count: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all recent signs of a node come to."""

    severity: Severity
    action: Action
    because: Signal


@dataclass(frozen=True, slots=True)
class Remediation:
    """One case of a node that is not well. At most one of a node is open."""

    id: str
    node: NodeId
    hostname: str
    status: RemediationStatus
    status_reason: Mapping[str, str]
    action: Action
    cause: str
    """What was noticed, in words."""
    signal: str
    created_at: datetime
    updated_at: datetime
    decided_by: str | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A check that runs or ran, as a workload of the operator's own project. `peer`: the other node, where there is
    one. `remediation`: the case that it decides."""

    workload: WorkloadId
    node: NodeId
    hostname: str
    check: Check
    created_at: datetime
    peer: str | None = None
    remediation: str | None = None
    outcome: ProbeOutcome | None = None
    detail: str = ""
    ended_at: datetime | None = None
