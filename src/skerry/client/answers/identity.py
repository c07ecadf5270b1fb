"""Who may do what."""

from datetime import datetime
from typing import Any

import msgspec

from skerry.client.answers.base import Answer, Money


class Whoami(Answer, frozen=True, kw_only=True):
    """The key that asked, and where it acts."""

    key_id: str = ""
    key_name: str = ""
    organization: str = ""
    organization_id: str = ""
    project: str = ""
    project_id: str = ""
    scopes: tuple[str, ...] = ()
    operator: bool = False
    models: tuple[str, ...] | None = None


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """None: not limited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    """Requests under way at once."""


class Organization(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    limits: RateLimits = RateLimits()
    tier: str = ""
    """`free` ones are slowed before `standard` ones when demand surges."""
    created_at: datetime | None = None


class Project(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    organization: str = ""
    trusted: bool = False
    jurisdictions: tuple[str, ...] = ()
    limits: RateLimits = RateLimits()
    log_content: bool = False
    """Whether the request log keeps what was asked and answered."""
    created_at: datetime | None = None


class Member(Answer, frozen=True, kw_only=True):
    id: str
    email: str
    role: str
    created_at: datetime | None = None


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """None: no limit of the key's own."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    budget: Money | None = None


class ApiKey(Answer, frozen=True, kw_only=True):
    """`key` is the secret: only a create or a rotate answers it, once. A replay of a create has None."""

    id: str
    name: str = ""
    status: str = ""
    scopes: tuple[str, ...] = ()
    models: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    limits: KeyLimits | None = None
    created_at: datetime | None = None
    revoked_at: datetime | None = None
    key: str | None = None
    last4: str = ""

    def __repr__(self) -> str:
        return f"ApiKey(id={self.id!r}, name={self.name!r}, status={self.status!r}, key={'…' if self.key else None!r})"


class AuditEvent(Answer, frozen=True, kw_only=True):
    """Who (the key) did what on what, from where (`origin`), and what came of it."""

    id: str
    seq: int = 0
    at: datetime | None = None
    key_id: str | None = None
    key_name: str = ""
    action: str = ""
    resource: str = ""
    origin: str = ""
    outcome: str = ""
    detail: dict[str, Any] = msgspec.field(default_factory=dict)


class AuditBreak(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain does not hold."""

    seq: int
    event_id: str | None = None
    reason: str = ""


class AuditVerdict(Answer, frozen=True, kw_only=True):
    """`events` were checked; `first_break` is None where all of them hold."""

    intact: bool = False
    events: int = 0
    first_break: AuditBreak | None = None
