"""The health of nodes: what was noticed, and what is done about it."""

from datetime import datetime

import msgspec

from skerry.client.answers.base import Answer, StatusReason


class NodeSignal(Answer, frozen=True, kw_only=True):
    """Something that was noticed on a node. `count`: how often within its hour."""

    id: str
    node: str
    kind: str = ""
    code: str = ""
    severity: str = ""
    detail: str = ""
    action: str = ""
    at: datetime | None = None
    last_at: datetime | None = None
    count: int = 1


class Remediation(Answer, frozen=True, kw_only=True):
    """A node that is not well, and what is to be done about it."""

    id: str
    node: str
    status: str
    status_reason: StatusReason = msgspec.field(default_factory=StatusReason)
    action: str = ""
    cause: str = ""
    decided_by: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    ended_at: datetime | None = None


class CheckRun(Answer, frozen=True, kw_only=True):
    """A check that was asked for."""

    workload_id: str
    node: str
    peer: str | None = None
    check: str = ""
