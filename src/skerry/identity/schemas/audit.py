"""The audit trail on the wire."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from skerry.identity.model import AuditEvent, AuditVerdict


class AuditEventOut(BaseModel):
    """`hash` is SHA-256 over `prev_hash` (raw bytes) and the canonical JSON of the event (identity/audit.py)."""

    id: str
    seq: int
    at: datetime
    key_id: str | None
    key_name: str
    """Who."""
    action: str
    """What."""
    resource: str
    """On what."""
    origin: str
    """From where: the client's address."""
    outcome: str
    project_id: str | None
    organization_id: str
    request_id: str
    detail: dict[str, Any]
    prev_hash: str
    hash: str

    @classmethod
    def of(cls, event: AuditEvent) -> "AuditEventOut":
        return cls(
            id=event.id,
            seq=event.seq,
            at=event.at,
            key_id=event.key_id,
            key_name=event.key_name,
            action=event.entry.action,
            resource=event.entry.resource,
            origin=event.origin,
            outcome=event.entry.outcome,
            project_id=event.project_id,
            organization_id=event.organization_id,
            request_id=event.request_id,
            detail=dict(event.entry.detail),
            prev_hash=event.prev_hash.hex(),
            hash=event.hash.hex(),
        )


class AuditBreakOut(BaseModel):
    seq: int
    event_id: str | None
    reason: str


class AuditVerdictOut(BaseModel):
    organization_id: str
    intact: bool
    events: int
    first_break: AuditBreakOut | None

    @classmethod
    def of(cls, verdict: AuditVerdict) -> "AuditVerdictOut":
        first = verdict.first_break
        return cls(
            organization_id=verdict.organization_id,
            intact=first is None,
            events=verdict.events,
            first_break=AuditBreakOut(seq=first.seq, event_id=first.event_id, reason=first.reason) if first else None,
        )


class TimelineEvent(BaseModel):
    """An entry of the trail in the shape of any other timeline."""

    id: str
    at: datetime
    type: str
    resource: str
    resource_kind: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: AuditEvent) -> "TimelineEvent":
        return cls(
            id=event.id,
            at=event.at,
            type=f"{event.entry.action}d",  # the trail says what was done, a timeline what happened: `member.created`
            resource=event.entry.resource,
            resource_kind=event.entry.action.partition(".")[0],
            data={**event.entry.detail, "by": event.key_name},
        )
