"""Organizations, projects, members and service accounts on the wire."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from skerry.identity.changes import ProjectChanges
from skerry.identity.model import Member, Organization, OrganizationTier, Project, RateLimits, Role, ServiceAccount
from skerry.identity.schemas.base import (
    Email,
    Jurisdiction,
    Label,
    OrganizationName,
    ProjectName,
    RateLimitsBody,
    Wire,
)


class OrganizationBody(Wire):
    name: OrganizationName


class OrganizationOut(BaseModel):
    id: str
    name: str
    created_at: datetime
    limits: RateLimitsBody
    tier: OrganizationTier

    @classmethod
    def of(cls, organization: Organization) -> "OrganizationOut":
        return cls(
            id=organization.id,
            name=organization.name,
            created_at=organization.created_at,
            limits=RateLimitsBody.of_rates(organization.limits),
            tier=organization.tier,
        )


class OrganizationChange(Wire):
    """What is not given stays; `limits` is replaced as a whole, `null` lifts it."""

    limits: RateLimitsBody | None = None
    tier: OrganizationTier | None = None

    def to_limits(self) -> RateLimits | None:
        return (self.limits or RateLimitsBody()).to_rates() if "limits" in self.model_fields_set else None


class ProjectBody(Wire):
    name: ProjectName
    organization: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    """Operators only; by id or name."""
    trusted: Annotated[bool, Field(strict=True)] = False
    """Operators only: its code may share a boundary with others (no isolation)."""
    jurisdictions: Annotated[list[Jurisdiction], Field(max_length=100)] | None = None
    """Countries (ISO 3166 alpha-2) and groups such as `EU` where its data may be; empty: anywhere."""


class ProjectChange(Wire):
    """What is not given stays; `limits` is replaced as a whole, `null` lifts it."""

    name: ProjectName | None = None
    trusted: Annotated[bool, Field(strict=True)] | None = None
    jurisdictions: Annotated[list[Jurisdiction], Field(max_length=100)] | None = None
    limits: RateLimitsBody | None = None
    """Keys of the home project and operators set them; a project's own key may only lower them."""
    log_content: Annotated[bool, Field(strict=True)] | None = None
    """Whether the request log keeps prompts and answers, encrypted, for keys of the project alone."""

    def to_changes(self) -> ProjectChanges:
        limits = (self.limits or RateLimitsBody()).to_rates() if "limits" in self.model_fields_set else None
        return ProjectChanges(self.name, self.trusted, self.jurisdictions, limits, self.log_content)


class ProjectOut(BaseModel):
    id: str
    name: str
    organization: str
    organization_id: str
    trusted: bool
    jurisdictions: list[str]
    home: bool
    created_at: datetime
    limits: RateLimitsBody
    log_content: bool

    @classmethod
    def of(cls, project: Project) -> "ProjectOut":
        return cls(
            id=project.id,
            name=project.name,
            organization=project.organization,
            organization_id=project.organization_id,
            trusted=project.trusted,
            jurisdictions=list(project.jurisdictions),
            home=project.home,
            created_at=project.created_at,
            limits=RateLimitsBody.of_rates(project.limits),
            log_content=project.log_content,
        )


class MemberBody(Wire):
    email: Email
    role: Role


class MemberChange(Wire):
    role: Role


class MemberOut(BaseModel):
    id: str
    user_id: str
    organization_id: str
    email: str
    role: Role
    created_at: datetime

    @classmethod
    def of(cls, member: Member) -> "MemberOut":
        return cls(
            id=member.id,
            user_id=member.user_id,
            organization_id=member.organization_id,
            email=member.email,
            role=member.role,
            created_at=member.created_at,
        )


class ServiceAccountBody(Wire):
    name: Label


class ServiceAccountOut(BaseModel):
    id: str
    name: str
    project_id: str
    created_at: datetime

    @classmethod
    def of(cls, account: ServiceAccount) -> "ServiceAccountOut":
        return cls(id=account.id, name=account.name, project_id=account.project_id, created_at=account.created_at)
