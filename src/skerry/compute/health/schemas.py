"""The health of nodes on the wire; operator scope."""

from typing import Annotated

from pydantic import Field

from skerry.compute.health import model
from skerry.compute.health.model import Action, Check, RemediationStatus, Severity, SignalKind
from skerry.fleet.schemas.changes import Ref
from skerry.fleet.schemas.things import Time, Wire
from skerry.identity.schemas.base import Wire as Body


class ReasonOut(Wire):
    code: str
    message: str


class SignalOut(Wire):
    """Something that was noticed on a node. `count`: how often within its hour."""

    id: str
    node: str
    node_id: str
    kind: SignalKind
    code: str
    severity: Severity
    detail: str
    action: Action
    at: Time
    last_at: Time
    count: int

    @classmethod
    def of(cls, one: model.Signal) -> "SignalOut":
        return cls(
            id=one.id,
            node=one.hostname,
            node_id=one.node,
            kind=one.kind,
            code=one.code,
            severity=one.severity,
            detail=one.detail,
            action=one.action,
            at=one.at,
            last_at=one.last_at,
            count=one.count,
        )


class RemediationOut(Wire):
    """A node that is not well, and what is to be done. `mended` says that hands have done it."""

    id: str
    node: str
    node_id: str
    status: RemediationStatus
    status_reason: ReasonOut
    action: Action
    cause: str
    signal: str
    decided_by: str | None
    created_at: Time
    updated_at: Time
    ended_at: Time | None
    actions: dict[str, dict[str, bool | str]]

    @classmethod
    def of(cls, one: model.Remediation) -> "RemediationOut":
        return cls(
            id=one.id,
            node=one.hostname,
            node_id=one.node,
            status=one.status,
            status_reason=ReasonOut(**one.status_reason),
            action=one.action,
            cause=one.cause,
            signal=one.signal,
            decided_by=one.decided_by,
            created_at=one.created_at,
            updated_at=one.updated_at,
            ended_at=one.ended_at,
            actions={verb: _action(one, may) for verb, may in _MAY.items()},
        )


class CheckRequest(Body):
    """`peer`: the other node of a bandwidth check."""

    check: Check = Check.BURN_IN
    peer: Annotated[Ref | None, Field()] = None


class CheckRun(Wire):
    """A check that was asked for. It begins when the node is idle, and gives way to whoever wants the node."""

    workload_id: str
    node: str
    peer: str | None
    check: Check
    created_at: Time

    @classmethod
    def of(cls, probe: model.Probe) -> "CheckRun":
        return cls(
            workload_id=probe.workload,
            node=probe.hostname,
            peer=probe.peer,
            check=probe.check,
            created_at=probe.created_at,
        )


_PROPOSED = (RemediationStatus.PROPOSED,)
_BEFORE = (RemediationStatus.PROPOSED, RemediationStatus.APPROVED)
_MAY = {"approve": _PROPOSED, "reject": _BEFORE, "mended": _BEFORE}


def _action(one: model.Remediation, may: tuple[RemediationStatus, ...]) -> dict[str, bool | str]:
    available = one.status in may
    return {"available": available, "why_not": "" if available else f"It is {one.status}."}
