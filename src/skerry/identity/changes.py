"""Changes of organizations and projects: names, limits, tiers, what is logged. Gateways follow within a second."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from skerry.db.database import Tx
from skerry.db.notify import KEYS, notify
from skerry.identity import rules
from skerry.identity.errors import BuiltInProject, ContentNotYours, NameTaken
from skerry.identity.model import (
    DEMO_ORGANIZATION,
    DEMO_PROJECT,
    OPERATOR_ORGANIZATION,
    OPERATOR_PROJECT,
    AuditEntry,
    Organization,
    OrganizationTier,
    Principal,
    Project,
    RateLimits,
)
from skerry.identity.store.keys import KeyStore
from skerry.identity.tenants import Tenants, require_operator
from skerry.kernel.ids import OrganizationId, ProjectId

_BUILT_IN: Final = {(OPERATOR_ORGANIZATION, OPERATOR_PROJECT), (DEMO_ORGANIZATION, DEMO_PROJECT)}


@dataclass(frozen=True, slots=True)
class ProjectChanges:
    """None leaves a field as it is. `limits` is replaced as a whole."""

    name: str | None = None
    trusted: bool | None = None
    jurisdictions: Sequence[str] | None = None
    limits: RateLimits | None = None
    log_content: bool | None = None


class Changes:
    def __init__(self, tenants: Tenants) -> None:
        self.tenants = tenants
        self.keys = KeyStore()

    async def update_organization(
        self, principal: Principal, ref: str, *, limits: RateLimits | None, tier: OrganizationTier | None
    ) -> Organization:
        """Operators alone. None leaves a field as it is; `limits` is replaced as a whole. Raises OperatorRequired."""
        require_operator(principal, "change an organization's limits and tier")
        tenants = self.tenants
        async with tenants.db.transaction() as tx:
            organization = await tenants.organization_of(tx, principal, ref)
            values: dict[str, Any] = {} if limits is None else asdict(limits)
            if tier is not None:
                values["tier"] = tier.value
            if not values:
                return organization
            await tenants.store.update_organization(tx, organization.id, values)
            await self._tell_gateways(tx, organization.id)
            entry = AuditEntry("organization.update", organization.id, detail=_said(values))
            await tenants.trail.record(tx, principal, entry, organization=organization.id)
            return await tenants.organization_of(tx, principal, organization.id)

    async def update_project(self, principal: Principal, ref: str, changes: ProjectChanges) -> Project:
        """Raises UnknownProject, OperatorRequired (`trusted`), GrantTooWide (`limits`), ContentNotYours, NameTaken,
        BuiltInProject."""
        if changes.trusted is not None:
            require_operator(principal, "decide which projects are trusted")
        tenants = self.tenants
        async with tenants.db.transaction() as tx:
            project = await tenants.visible(tx, principal, ref)
            await self._require_allowed(tx, principal, project, changes)
            values = _values(changes)
            if not values:
                return project
            if changes.name not in (None, project.name):
                await self._require_free(tx, project, changes.name or "")
            await tenants.store.update_project(tx, project.id, values)
            await self._tell_gateways(tx, project.id)
            owner = project.organization_id
            await tenants.trail.note(tx, principal, owner, project.id, "project", project.id, "update", _said(values))
            return await tenants.get_project(tx, project.id)

    async def _require_allowed(self, tx: Tx, principal: Principal, project: Project, changes: ProjectChanges) -> None:
        if changes.limits is not None and not await self.tenants.is_home(tx, principal):
            rules.require_tighter(project.limits, changes.limits)
        if changes.log_content and not project.log_content and principal.operator:
            raise ContentNotYours(
                "an operator key cannot turn on the logging of a project's content",
                suggestion="A key of the project with the scope write can; you may turn it off.",
            )

    async def _require_free(self, tx: Tx, project: Project, name: str) -> None:
        if (project.organization, project.name) in _BUILT_IN:
            raise BuiltInProject(
                f"the project {project.name} of {project.organization} keeps its name",
                suggestion="Make a project of the name you want.",
            )
        await self.tenants.store.lock_organization(tx, project.organization_id)
        if await self.tenants.store.projects_named(tx, name, project.organization_id):
            raise NameTaken(
                f"there is a project {name!r} in {project.organization} already", suggestion="Choose another name."
            )

    async def _tell_gateways(self, tx: Tx, owner: ProjectId | OrganizationId) -> None:
        """Limits travel with each key's record, so all keys below have changed."""
        await self.keys.touch_all_of(tx, owner, await self.keys.next_seq(tx))
        await notify(tx, KEYS, owner)


def _values(changes: ProjectChanges) -> dict[str, Any]:
    values: dict[str, Any] = {} if changes.limits is None else asdict(changes.limits)
    for name in ("name", "trusted", "log_content"):
        value = getattr(changes, name)
        if value is not None:
            values[name] = value
    if changes.jurisdictions is not None:
        values["jurisdictions"] = list(changes.jurisdictions)
    return values


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """As the trail holds it: a limit that was lifted is worth saying."""
    return {name: "none" if value is None else value for name, value in values.items()}
