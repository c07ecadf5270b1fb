"""Requests about keys, projects and the people who have them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from skerry.client.answers.base import reader
from skerry.client.answers.identity import ApiKey, AuditEvent, AuditVerdict, Member, Organization, Project, Whoami
from skerry.client.call import CONTROL, Call, Page, at, change, create, delete, get, listing, present, rfc3339

KEYS = f"{CONTROL}/api-keys"
PROJECTS = f"{CONTROL}/projects"
ORGANIZATIONS = f"{CONTROL}/organizations"
MEMBERS = f"{CONTROL}/members"
AUDIT = f"{CONTROL}/audit-events"


def whoami() -> Call[Whoami]:
    """The key in use and the project it acts on."""
    return get(f"{CONTROL}/whoami", reader(Whoami))


def list_keys(*, limit: int | None = None) -> Call[Page[ApiKey]]:
    """The project's keys, without their secrets."""
    return listing(KEYS, reader(ApiKey), limit=limit)


def get_key(key_id: str) -> Call[ApiKey]:
    return get(at(KEYS, key_id), reader(ApiKey))


def create_key(
    name: str,
    *,
    scopes: Sequence[str],
    models: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    limits: Mapping[str, Any] | None = None,
) -> Call[ApiKey]:
    """The answer's `key` is the secret, shown this once.

    `limits`: requests_per_minute, tokens_per_minute, concurrent_requests, budget.
    """
    body = {
        "name": name,
        "scopes": list(scopes),
        "models": None if models is None else list(models),
        "expires_at": None if expires_at is None else rfc3339(expires_at),
        "limits": limits or None,
    }
    return create(KEYS, reader(ApiKey), body)


def rotate_key(key_id: str, *, grace_seconds: int | None = None) -> Call[ApiKey]:
    """A new secret for the same key; the old one works for `grace_seconds` more (default: not at all)."""
    return create(at(KEYS, key_id, "rotate"), reader(ApiKey), {"grace_seconds": grace_seconds})


def revoke_key(key_id: str) -> Call[None]:
    return delete(at(KEYS, key_id))


def list_projects(*, organization: str | None = None, limit: int | None = None) -> Call[Page[Project]]:
    """Those that the key may see; `organization` is for operators, here and below."""
    return listing(PROJECTS, reader(Project), organization=organization, limit=limit)


def create_project(
    name: str,
    *,
    jurisdictions: Sequence[str] | None = None,
    organization: str | None = None,
    trusted: bool | None = None,
) -> Call[Project]:
    """`jurisdictions`: where its data may be, such as NO or EU. `organization` and `trusted` are for operators."""
    body = {
        "name": name,
        "jurisdictions": list(jurisdictions) if jurisdictions else None,
        "organization": organization,
        "trusted": trusted,
    }
    return create(PROJECTS, reader(Project), body)


def get_project(project: str) -> Call[Project]:
    """By id or name."""
    return get(at(PROJECTS, project), reader(Project))


def update_project(
    project: str,
    *,
    name: str | None = None,
    trusted: bool | None = None,
    jurisdictions: Sequence[str] | None = None,
    limits: Mapping[str, int] | None = None,
    log_content: bool | None = None,
) -> Call[Project]:
    """What is left out stays. `limits` takes the place of all that there were; `{}` lifts them."""
    body = {
        "name": name,
        "trusted": trusted,
        "jurisdictions": None if jurisdictions is None else list(jurisdictions),
        "limits": None if limits is None else dict(limits),
        "log_content": log_content,
    }
    return change(at(PROJECTS, project), reader(Project), present(body))


def list_organizations(*, limit: int | None = None) -> Call[Page[Organization]]:
    """Needs the operator scope."""
    return listing(ORGANIZATIONS, reader(Organization), limit=limit)


def create_organization(name: str) -> Call[Organization]:
    """Needs the operator scope."""
    return create(ORGANIZATIONS, reader(Organization), {"name": name})


def get_organization(organization: str) -> Call[Organization]:
    """By id or name. Needs the operator scope."""
    return get(at(ORGANIZATIONS, organization), reader(Organization))


def update_organization(
    organization: str, *, limits: Mapping[str, int] | None = None, tier: str | None = None
) -> Call[Organization]:
    """`limits` takes the place of all that there were; `{}` lifts them. `tier`: standard or free. Needs the operator
    scope."""
    body = {"limits": None if limits is None else dict(limits), "tier": tier}
    return change(at(ORGANIZATIONS, organization), reader(Organization), present(body))


def list_members(*, organization: str | None = None, limit: int | None = None) -> Call[Page[Member]]:
    return listing(MEMBERS, reader(Member), organization=organization, limit=limit)


def add_member(email: str, *, role: str, organization: str | None = None) -> Call[Member]:
    """`role`: owner, admin, member, billing or viewer."""
    adding = create(MEMBERS, reader(Member), {"email": email, "role": role})
    return adding.with_query(organization=organization)


def list_audit(
    *, resource: str | None = None, organization: str | None = None, limit: int | None = None
) -> Call[Page[AuditEvent]]:
    """Oldest first; `resource` is the id of what it was done to."""
    return listing(AUDIT, reader(AuditEvent), resource=resource, organization=organization, limit=limit)


def verify_audit(*, organization: str | None = None) -> Call[AuditVerdict]:
    """Recomputes the hash chain of the organization's audit events."""
    return get(f"{AUDIT}/verify", reader(AuditVerdict), organization=organization)
