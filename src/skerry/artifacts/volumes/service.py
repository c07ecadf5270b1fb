"""Volumes: make, attach, delete. What is in one is removed by its reconciler, where it lies."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog

from skerry.artifacts.volumes import rules
from skerry.artifacts.volumes.errors import (
    NoVolumeRoom,
    NoVolumeStorage,
    UnknownVolume,
    VolumeInUse,
    VolumeNameTaken,
    gib,
)
from skerry.artifacts.volumes.model import (
    TRANSITIONS,
    Attached,
    Attachment,
    HolderKind,
    NewVolume,
    Volume,
    VolumeKind,
    VolumeLimits,
    VolumeReason,
    VolumeStatus,
    VolumeTier,
    WantedVolume,
)
from skerry.artifacts.volumes.store import TABLE, VolumeStore
from skerry.db.database import Database, Tx
from skerry.db.notify import WORK, notify
from skerry.identity.model import Principal
from skerry.kernel.clock import Clock
from skerry.kernel.errors import FieldError
from skerry.kernel.ids import IdFactory, ProjectId, VolumeId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.metering.model import UsageFact
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.state import Reason, transition

KIND = "volume"
"""Kind of the resource, and payload of the hint to the reconciler."""


class Sites(Protocol):
    """Where there are machines (fleet)."""

    async def allowed(self, tx: Tx, project: ProjectId) -> tuple[Mapping[str, str], Collection[str]]:
        """Names by name and by id of the sites where the project's data may be; and the names and ids of all."""
        ...


class Auditor(Protocol):
    async def audit(
        self, tx: Tx, principal: Principal | None, action: str, resource: str, *, detail: dict[str, Any] | None = None
    ) -> None: ...


class Volumes:
    """`folder`: where volumes lie, as the nodes see it; None: nowhere. A volume's own is made when it is first used."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        auditor: Auditor,
        metering: Metering,
        sites: Sites,
        folder: Path | None,
        limits: VolumeLimits,
        *,
        ids: IdFactory = new_id,
    ) -> None:
        self.db = db
        self.clock = clock
        self.events = events
        self.auditor = auditor
        self.metering = metering
        self.sites = sites
        self.folder = folder
        self.limits = limits
        self.new_id = ids
        self.store = VolumeStore()
        self._log = structlog.get_logger("skerry.artifacts.volumes")

    async def create(self, principal: Principal, new: NewVolume) -> Volume:
        """Raises BadVolume, VolumeNameTaken, VolumesQuotaExceeded, NoVolumeRoom, NoVolumeStorage."""
        async with self.db.transaction() as tx:
            site = await self.site(tx, principal.project_id, new.site)
            volume = await self._insert(tx, principal.project_id, VolumeKind.VOLUME, new, site)
            await self.auditor.audit(tx, principal, "volume.create", volume.id, detail=volume.described())
        return volume

    async def create_home(self, tx: Tx, project: ProjectId, name: str, size: int, site: str) -> Volume:
        """The home of an instance or cluster. Raises as `create`."""
        new = NewVolume(name, size, site, VolumeTier.STANDARD)
        return await self._insert(tx, project, VolumeKind.HOME, new, site)

    async def site(self, tx: Tx, project: ProjectId, ref: str | None) -> str:
        """The name of a site where the project's data may be; the only one where none is named. Raises BadVolume."""
        allowed, known = await self.sites.allowed(tx, project)
        return rules.choose_site(ref, allowed, known)

    async def get(self, project: ProjectId, ref: str) -> Volume:
        """By id or name. Raises UnknownVolume."""
        async with self.db.reading() as tx:
            return await self.require(tx, project, ref)

    async def require(self, tx: Tx, project: ProjectId, ref: str, *, lock: bool = False) -> Volume:
        """The same within a transaction of the caller's. Raises UnknownVolume."""
        volume = await self.store.find(tx, project, ref, lock=lock)
        if volume is None:
            raise UnknownVolume(f"there is no volume {ref[:100]!r}", suggestion="List them to see which there are.")
        return volume

    async def list(self, project: ProjectId, page: PageRequest, *, site: str | None = None) -> Page[Volume]:
        async with self.db.reading() as tx:
            return await self.store.page(tx, project, page, site=site)

    async def attached(self, tx: Tx, project: ProjectId, holder: str) -> Sequence[Attached]:
        """What a holder has."""
        volumes = await self.store.of_holder(tx, project, holder)
        return [
            Attached(volume, one.target, one.read_only)
            for volume in volumes
            for one in volume.attachments
            if one.holder == holder
        ]

    async def attach(
        self,
        tx: Tx,
        project: ProjectId,
        wanted: Sequence[WantedVolume],
        holder_kind: HolderKind,
        holder: str,
        *,
        path: str = "volumes",
    ) -> Sequence[Attached]:
        """All of them, or none. Raises BadVolume, VolumeInUse, naming the field below `path`."""
        rules.check_targets(wanted, path)
        done: dict[VolumeId, Attached] = {}
        # In the order of names, so that two that want the same ones never wait in a circle.
        for number in sorted(range(len(wanted)), key=lambda number: wanted[number].ref):
            one, where = wanted[number], f"{path}.{number}"
            volume = await self.store.find(tx, project, one.ref, lock=True)
            if volume is None or volume.status is not VolumeStatus.READY:
                raise rules.bad(where, "unknown_volume", f"there is no volume {one.ref[:100]!r}")
            if volume.id in done or volume.kind is VolumeKind.HOME:
                words = "it is named twice" if volume.id in done else "it is the home of another machine"
                raise rules.bad(where, "bad_volume", f"volume {volume.name} cannot be attached: {words}")
            rules.check_shareable(volume, holder, read_only=one.read_only, path=where)
            await self._attach(tx, volume, holder_kind, holder, one.target, read_only=one.read_only)
            done[volume.id] = Attached(volume, one.target, one.read_only)
        return tuple(done.values())

    async def attach_home(self, tx: Tx, volume: Volume, holder_kind: HolderKind, holder: str, target: str) -> None:
        await self._attach(tx, volume, holder_kind, holder, target, read_only=False)

    async def detach(self, tx: Tx, project: ProjectId, holder: str) -> None:
        """The holder is gone: its volumes are free, and its home goes with it."""
        held = await self.store.of_holder(tx, project, holder)
        await self.store.detach(tx, project, holder)
        for volume in held:
            await self._record(tx, volume, "volume.detached", {"holder": holder})
            if volume.kind is VolumeKind.HOME and volume.status is VolumeStatus.READY:
                await self._delete(tx, volume, VolumeReason.OWNER_GONE)

    async def delete(self, principal: Principal, ref: str) -> Volume:
        """It costs nothing from now on; what was in it is removed, which is put on record. Deleting it again changes
        nothing. Raises UnknownVolume, VolumeInUse."""
        async with self.db.transaction() as tx:
            volume = await self.require(tx, principal.project_id, ref, lock=True)
            if volume.status is not VolumeStatus.READY:
                return volume
            if volume.attachments:
                who = f"{volume.attachments[0].holder_kind} {volume.attachments[0].holder}"
                raise VolumeInUse(
                    f"volume {volume.name} is attached to {who}",
                    suggestion=f"Terminate {who} first; a volume is free when nothing has it.",
                )
            await self._delete(tx, volume, VolumeReason.REQUESTED)
            await self.auditor.audit(tx, principal, "volume.delete", volume.id, detail=volume.described())
            return await self.require(tx, volume.project, volume.id)

    def path_of(self, volume: Volume) -> Path:
        """Where it lies, as nodes see it. Raises NoVolumeStorage."""
        return self.require_folder() / volume.project / volume.id

    def require_folder(self) -> Path:
        """Raises NoVolumeStorage."""
        if self.folder is None:
            raise NoVolumeStorage(
                "there is no storage for volumes and home folders here",
                suggestion="Operators set SKERRY_VOLUMES_FOLDER to a folder that all nodes share; without a home "
                "folder (home_bytes 0) an instance needs none.",
                retry_after=3600,
            )
        return self.folder

    async def move(
        self,
        tx: Tx,
        volume: Volume,
        after: VolumeStatus,
        why: VolumeReason,
        words: str = "",
        *,
        values: Mapping[str, Any],
    ) -> None:
        """One step of a volume that is locked."""
        moved = await transition(
            tx,
            self.events,
            TRANSITIONS,
            TABLE,
            id=volume.id,
            project=volume.project,
            before=volume.status,
            after=after,
            reason=Reason(why, words),
            values=values,
        )
        assert moved, "the row is locked"

    async def take_in(self, tx: Tx, facts: Sequence[UsageFact]) -> None:
        if not facts:
            return
        result = await self.metering.intake(tx, facts)
        if result.rejected:
            self._log.error("volume_usage_rejected", facts=[str(rejection.id) for rejection in result.rejected])

    async def _insert(self, tx: Tx, project: ProjectId, kind: VolumeKind, new: NewVolume, site: str) -> Volume:
        path = "bytes" if kind is VolumeKind.VOLUME else "home_bytes"
        rules.check_size(new.bytes, path)
        self._check_room(new.bytes, path)
        await self.store.lock_project(tx, project)
        count, used = await self.store.usage(tx, project)
        rules.check_quota(count, used, new.bytes, self.limits, path)
        now = self.clock.now()
        volume = Volume(
            id=VolumeId(self.new_id("vol")),
            project=project,
            name=new.name,
            kind=kind,
            site=site,
            bytes=new.bytes,
            tier=new.tier,
            status=VolumeStatus.READY,
            reason=Reason(VolumeReason.CREATED),
            created_at=now,
            updated_at=now,
        )
        if not await self.store.insert(tx, volume, rules.next_metering(now)):
            words = f"there is a volume {new.name!r} in this project"
            errors = [FieldError("name", "volume_name_taken", words)]
            raise VolumeNameTaken(words, suggestion="Choose another name.", errors=errors)
        await self._record(tx, volume, "volume.created", volume.described())
        return volume

    def _check_room(self, size: int, path: str) -> None:
        """Where this machine sees the folder too. What is asked for is not set aside: the disk may fill later."""
        place = self.require_folder()
        while not place.exists() and place != place.parent:
            place = place.parent
        free = shutil.disk_usage(place).free
        if size > free:
            words = f"{gib(size)} are wanted, and the storage has {gib(free)} left"
            raise NoVolumeRoom(
                words,
                suggestion=f"Ask for {gib(free)} or less.",
                errors=[FieldError(path, "no_volume_room", words)],
                extra={"free_bytes": free},
            )

    async def _attach(
        self, tx: Tx, volume: Volume, holder_kind: HolderKind, holder: str, target: str, *, read_only: bool
    ) -> None:
        now = self.clock.now()
        attachment = Attachment(volume.id, holder_kind, holder, target, read_only, now)
        await self.store.attach(tx, volume.project, attachment)
        told = {"holder": holder, "target": target, "read_only": read_only}
        await self._record(tx, volume, "volume.attached", told)

    async def _delete(self, tx: Tx, volume: Volume, why: VolumeReason) -> None:
        now = self.clock.now()
        await self.take_in(tx, rules.storage_facts(volume, now))
        ended = {"deleted_at": now, "metered_through": now, "due_at": now}
        await self.move(tx, volume, VolumeStatus.DELETING, why, values=ended)
        await notify(tx, WORK, KIND)

    async def _record(self, tx: Tx, volume: Volume, type: str, data: Mapping[str, Any]) -> None:
        await self.events.record(
            tx, project=volume.project, resource=volume.id, resource_kind=KIND, type=type, data=data
        )
