"""What may be done to a node, and what that makes of it."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from skerry.fleet.model import AWAY, NODE_TRANSITIONS, NodeStatus


class NodeVerb(StrEnum):
    """What an operator does to a node."""

    CORDON = "cordon"
    DRAIN = "drain"
    MAINTAIN = "maintain"
    """It is empty and being worked on."""
    RESUME = "resume"
    FAIL = "fail"
    RETIRE = "retire"


BECOMES: Final[Mapping[NodeVerb, NodeStatus]] = {
    NodeVerb.CORDON: NodeStatus.CORDONED,
    NodeVerb.DRAIN: NodeStatus.DRAINING,
    NodeVerb.MAINTAIN: NodeStatus.MAINTENANCE,
    NodeVerb.RESUME: NodeStatus.READY,
    NodeVerb.FAIL: NodeStatus.FAILED,
    NodeVerb.RETIRE: NodeStatus.RETIRED,
}

FACTS: Final = frozenset({NodeVerb.FAIL})
"""What has happened anyway: said, not asked."""


def actions(status: NodeStatus) -> dict[NodeVerb, str]:
    """Why each verb cannot be used now; empty where it can."""
    return {verb: why_not(status, verb) for verb in NodeVerb}


def why_not(status: NodeStatus, verb: NodeVerb) -> str:
    """Empty where it can be done. Doing the same again is allowed where it may change until when."""
    after = BECOMES[verb]
    if NODE_TRANSITIONS.allows(status, after) or (status is after and after in AWAY):
        return ""
    may = ", ".join(other for other in NodeVerb if NODE_TRANSITIONS.allows(status, BECOMES[other]))
    return f"It is {status}; {f'it can be made: {may}' if may else 'that is final'}."


def wrong_until(until: datetime, verb: NodeVerb, now: datetime) -> str | None:
    if BECOMES[verb] not in AWAY:
        return f"{verb} has no end"
    if until <= now:
        return "until must lie ahead"
    return "until is a whole second" if until.microsecond else None
