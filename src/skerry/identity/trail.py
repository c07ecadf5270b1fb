"""The audit trail: writing it, reading it, and checking that nobody has changed it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from skerry.db.database import Database, Tx
from skerry.db.partitions import Partitions
from skerry.identity.audit import GENESIS, chain_hash, fault
from skerry.identity.model import AuditBreak, AuditEntry, AuditEvent, AuditOutcome, AuditVerdict, Principal
from skerry.identity.store.audit import AuditStore
from skerry.kernel.clock import Clock
from skerry.kernel.errors import FieldError, Malformed
from skerry.kernel.ids import IdFactory, OrganizationId, ProjectId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import EventLog

SYSTEM = "system"
"""Name of the actor where Skerry itself did it."""

_LONGEST_TEXT = 300


class Trail:
    def __init__(self, db: Database, clock: Clock, events: EventLog, new_id: IdFactory) -> None:
        self.db = db
        self.clock = clock
        self.events = events
        self.new_id = new_id
        self.store = AuditStore()
        self.partitions = Partitions("audit_events", "month")

    async def record(
        self,
        tx: Tx,
        actor: Principal | None,
        entry: AuditEntry,
        *,
        organization: OrganizationId | None = None,
        project: ProjectId | None = None,
    ) -> AuditEvent:
        """Append to the chain of the organization (default: the one the actor acts in).

        Call it last in a transaction: from here to the commit the organization's other writers wait.
        Without an actor the organization has to be given.
        """
        organization = organization or (actor.organization_id if actor else None)
        if organization is None:
            raise ValueError("an audit event belongs to an organization")
        if project is None and actor is not None and actor.organization_id == organization:
            project = actor.project_id
        now = self.clock.now()
        await self.partitions.cover(tx, now)
        seq, prev_hash = await self.store.lock_head(tx, organization)
        event = AuditEvent(
            id=self.new_id("aud"),
            organization_id=organization,
            project_id=project,
            seq=seq + 1,
            at=now,
            key_id=actor.key_id if actor else None,
            key_name=actor.key_name if actor else SYSTEM,
            origin=actor.origin if actor else "",
            request_id=actor.request_id if actor else "",
            entry=entry,
            prev_hash=prev_hash,
            hash=b"",
        )
        event = replace(event, hash=chain_hash(prev_hash, event))
        await self.store.append(tx, event)
        return event

    async def note(
        self,
        tx: Tx,
        actor: Principal | None,
        organization: OrganizationId,
        project: ProjectId,
        kind: str,
        resource: str,
        verb: str,
        detail: Mapping[str, Any],
    ) -> None:
        """A change of something of a project: an entry `api_key.create` in the trail, an event `api_key.created`."""
        data = {**detail, "by": actor.key_name if actor else SYSTEM}
        await self.events.record(
            tx, project=project, resource=resource, type=f"{kind}.{verb}d", data=data, resource_kind=kind
        )
        entry = AuditEntry(f"{kind}.{verb}", resource, detail=detail)
        await self.record(tx, actor, entry, organization=organization, project=project)

    async def refused(self, actor: Principal, action: str, resource: str, code: str) -> None:
        """Note that a valid key asked for what it may not have."""
        entry = AuditEntry(action, resource[:_LONGEST_TEXT], AuditOutcome.REFUSED, {"code": code})
        async with self.db.transaction() as tx:
            await self.record(tx, actor, entry)

    async def list(
        self,
        organization: OrganizationId,
        page: PageRequest,
        *,
        project: ProjectId | None = None,
        resource: str | None = None,
    ) -> Page[AuditEvent]:
        """Oldest first; of one project, or of the whole organization (None)."""
        if page.after and not (page.after[0].isascii() and page.after[0].isdigit() and len(page.after[0]) < 19):
            message = "after is not a cursor of this list"
            raise Malformed(message, errors=[FieldError("after", "bad_cursor", message)])
        async with self.db.reading() as tx:
            return await self.store.list(tx, organization, page, project=project, resource=resource)

    async def verify(self, organization: OrganizationId) -> AuditVerdict:
        """Read the whole chain and report the first event that does not hold.

        It finds events that were changed, removed, added or reordered. Whoever can rewrite the whole chain and its
        head can still deceive it: keep the newest hash elsewhere (each answer of `verify` is a good moment).
        """
        async with self.db.reading() as tx:
            head_seq, head_hash = await self.store.head(tx, organization)
            expected, prev_hash = 1, GENESIS
            last: AuditEvent | None = None
            while batch := await self.store.chain(tx, organization, last):
                for event in batch:
                    if reason := fault(event, expected, prev_hash):
                        return AuditVerdict(organization, expected - 1, AuditBreak(event.seq, event.id, reason))
                    expected, prev_hash = expected + 1, event.hash
                last = batch[-1]
        if (expected - 1, prev_hash) != (head_seq, head_hash):
            reason = f"the chain ends at {expected - 1}, its head says {head_seq}"
            return AuditVerdict(organization, expected - 1, AuditBreak(expected, None, reason))
        return AuditVerdict(organization, expected - 1, None)
