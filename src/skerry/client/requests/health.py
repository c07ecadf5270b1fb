"""Requests about the health of nodes; all of them are the operator's."""

from skerry.client.answers.base import reader
from skerry.client.answers.health import CheckRun, NodeSignal, Remediation
from skerry.client.call import CONTROL, Call, Page, act, at, create, get, listing

HEALTH = f"{CONTROL}/health"
SIGNALS = f"{HEALTH}/signals"
REMEDIATIONS = f"{HEALTH}/remediations"


def list_signals(*, node: str | None = None, limit: int | None = None) -> Call[Page[NodeSignal]]:
    """What was noticed, newest first."""
    return listing(SIGNALS, reader(NodeSignal), node=node, limit=limit)


def list_remediations(*, open: bool | None = None, limit: int | None = None) -> Call[Page[Remediation]]:
    """Newest first. `open`: only of nodes that are not well now."""
    return listing(REMEDIATIONS, reader(Remediation), open=open, limit=limit)


def get_remediation(id: str) -> Call[Remediation]:
    return get(at(REMEDIATIONS, id), reader(Remediation))


def decide_remediation(id: str, decision: str) -> Call[Remediation]:
    """`decision`: approve, reject or mended."""
    return act(at(REMEDIATIONS, id, decision), reader(Remediation))


def run_check(node: str, *, check: str = "burn_in", peer: str | None = None) -> Call[CheckRun]:
    """Have a node checked as soon as it is idle."""
    return create(at(f"{CONTROL}/nodes", node, "run-check"), reader(CheckRun), {"check": check, "peer": peer})
