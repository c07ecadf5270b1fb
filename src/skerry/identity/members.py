"""Members of an organization. Routes ask `Tenants.administered` first which one a key may manage."""

from dataclasses import replace

from skerry.db.database import Database, Tx
from skerry.identity.errors import LastOwner, NameTaken
from skerry.identity.model import AuditEntry, Member, Principal, Role
from skerry.identity.store.tenants import TenantStore
from skerry.identity.trail import Trail
from skerry.kernel.clock import Clock
from skerry.kernel.errors import NotFound
from skerry.kernel.ids import IdFactory, MemberId, OrganizationId, UserId
from skerry.kernel.paging import Page, PageRequest


class Members:
    def __init__(self, db: Database, clock: Clock, trail: Trail, new_id: IdFactory) -> None:
        self.db = db
        self.clock = clock
        self.trail = trail
        self.new_id = new_id
        self.store = TenantStore()

    async def add(self, principal: Principal, organization: OrganizationId, email: str, role: Role) -> Member:
        """Raises NameTaken where that address is a member already."""
        now = self.clock.now()
        async with self.db.transaction() as tx:
            user = await self.store.user_by_email(tx, UserId(self.new_id("user")), email, now)
            member = Member(MemberId(self.new_id("mem")), organization, user, email, role, now)
            if not await self.store.insert_member(tx, member):
                raise NameTaken(f"{email} is a member already", suggestion="Change the role of the member with PATCH.")
            await self._note_member(tx, principal, member, "create")
        return member

    async def list(self, organization: OrganizationId, page: PageRequest) -> Page[Member]:
        async with self.db.reading() as tx:
            return await self.store.member_list(tx, organization, page)

    async def get(self, organization: OrganizationId, member: MemberId) -> Member:
        async with self.db.reading() as tx:
            return await self._member(tx, organization, member)

    async def change_role(
        self, principal: Principal, organization: OrganizationId, member: MemberId, role: Role
    ) -> Member:
        """Raises LastOwner where nobody would own the organization any more."""
        async with self.db.transaction() as tx:
            found = await self._member_to_change(tx, organization, member, stays_owner=role is Role.OWNER)
            await self.store.update_member(tx, organization, member, role)
            changed = replace(found, role=role)
            await self._note_member(tx, principal, changed, "update")
        return changed

    async def remove(self, principal: Principal, organization: OrganizationId, member: MemberId) -> Member:
        """Raises LastOwner."""
        async with self.db.transaction() as tx:
            found = await self._member_to_change(tx, organization, member, stays_owner=False)
            await self.store.delete_member(tx, organization, member)
            await self._note_member(tx, principal, found, "delete")
        return found

    async def _member(self, tx: Tx, organization: OrganizationId, member: MemberId) -> Member:
        found = await self.store.member(tx, organization, member)
        if found is None:
            raise NotFound(f"there is no member {member}")
        return found

    async def _member_to_change(
        self, tx: Tx, organization: OrganizationId, member: MemberId, *, stays_owner: bool
    ) -> Member:
        await self.store.lock_organization(tx, organization)
        found = await self._member(tx, organization, member)
        if found.role is Role.OWNER and not stays_owner and await self.store.count_owners(tx, organization) == 1:
            raise LastOwner(
                f"{found.email} is the organization's last owner", suggestion="Make another member owner first."
            )
        return found

    async def _note_member(self, tx: Tx, principal: Principal, member: Member, verb: str) -> None:
        detail = {"email": member.email, "role": str(member.role)}
        entry = AuditEntry(f"member.{verb}", member.id, detail=detail)
        await self.trail.record(tx, principal, entry, organization=member.organization_id)
