"""Values of identity: who pays, who works for them, and what a key may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from skerry.kernel.ids import KeyId, MemberId, OrganizationId, ProjectId, ServiceAccountId, UserId
from skerry.kernel.money import Money

OPERATOR_ORGANIZATION = "operator"
OPERATOR_PROJECT = "platform"
DEMO_ORGANIZATION = "demo"
DEMO_PROJECT = "default"


class Scope(StrEnum):
    """What a key may do. `operator` implies all the others."""

    INFERENCE = "inference"
    READ = "read"
    WRITE = "write"
    BILLING = "billing"
    OPERATOR = "operator"


class Role(StrEnum):
    """What a member of an organization may do once signed in to the console."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    BILLING = "billing"
    VIEWER = "viewer"


class KeyStatus(StrEnum):
    """Derived from the key's times, never stored."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class OrganizationTier(StrEnum):
    """Who is slowed first when demand surges."""

    STANDARD = "standard"
    """Slowed last."""
    FREE = "free"
    """Slowed before the others."""


class AuditOutcome(StrEnum):
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever presented a valid key, in the project the request is about.

    `project_id` and `organization_id` are the key's own, until `Access.project` points an operator elsewhere.
    """

    key_id: KeyId
    key_name: str
    organization_id: OrganizationId
    project_id: ProjectId
    scopes: frozenset[Scope]
    operator: bool = False
    models: frozenset[str] | None = None
    """Names of the models the key may call; None: all that its project may."""
    origin: str = ""
    """Client address as the gateway saw it."""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Of all keys of a project or an organization together. None: no limit of its own."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True)
class Organization:
    id: OrganizationId
    name: str
    created_at: datetime
    limits: RateLimits = field(default_factory=RateLimits)
    tier: OrganizationTier = OrganizationTier.STANDARD


@dataclass(frozen=True, slots=True)
class Project:
    """`home`: the organization's first project; its keys manage the organization itself (README)."""

    id: ProjectId
    organization_id: OrganizationId
    organization: str
    name: str
    trusted: bool
    jurisdictions: tuple[str, ...]
    home: bool
    created_at: datetime
    limits: RateLimits = field(default_factory=RateLimits)
    log_content: bool = False
    """Whether the request log keeps what was asked and answered, for the project's own keys."""


@dataclass(frozen=True, slots=True)
class Member:
    id: MemberId
    organization_id: OrganizationId
    user_id: UserId
    email: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    id: ServiceAccountId
    project_id: ProjectId
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """None: no limit of the key's own. `budget` is for the key's whole life."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget: Money | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a key is allowed: the part that must not exceed that of the key which grants it."""

    scopes: frozenset[Scope]
    models: frozenset[str] | None = None
    expires_at: datetime | None = None
    limits: KeyLimits = field(default_factory=KeyLimits)


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: KeyId
    organization_id: OrganizationId
    project_id: ProjectId
    name: str
    last4: str
    """Last characters of the newest secret, to recognise it by."""
    terms: KeyTerms
    service_account_id: ServiceAccountId | None
    created_at: datetime
    created_by: KeyId | None
    rotated_at: datetime | None
    revoked_at: datetime | None
    seq: int

    def status(self, now: datetime) -> KeyStatus:
        if self.revoked_at is not None:
            return KeyStatus.REVOKED
        if self.terms.expires_at is not None and self.terms.expires_at <= now:
            return KeyStatus.EXPIRED
        return KeyStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A key and its secret, which exists only here: the database has its digest."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One secret of one key, as a gateway holds it. A key in rotation has two records with the same `key_id`.

    `seq` rises with each change and in the order of commits, so `since=` the highest one seen misses nothing.
    """

    digest: bytes
    key_id: KeyId
    project_id: ProjectId
    organization_id: OrganizationId
    scopes: frozenset[Scope]
    models: frozenset[str] | None
    expires_at: datetime | None
    revoked_at: datetime | None
    limits: KeyLimits
    seq: int
    project_limits: RateLimits = field(default_factory=RateLimits)
    organization_limits: RateLimits = field(default_factory=RateLimits)
    tier: OrganizationTier = OrganizationTier.STANDARD
    log_content: bool = False
    """Of the project."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What the first start made. A secret is None where the key was there already."""

    operator_key: str | None
    project_key: str | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what, on what, from where, and what came of it. `detail` holds no secrets and no floats."""

    action: str
    """`noun.verb`, such as `api_key.create`."""
    resource: str
    """Id of what it was done to."""
    outcome: str = AuditOutcome.DONE
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An entry in its place in the organization's chain; `hash` covers everything else and `prev_hash`."""

    id: str
    organization_id: OrganizationId
    project_id: ProjectId | None
    seq: int
    at: datetime
    key_id: KeyId | None
    key_name: str
    origin: str
    request_id: str
    entry: AuditEntry
    prev_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditBreak:
    """The first place where a chain does not hold. `seq` is where, `reason` says how."""

    seq: int
    event_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    organization_id: OrganizationId
    events: int
    """Events that were checked and hold."""
    first_break: AuditBreak | None
