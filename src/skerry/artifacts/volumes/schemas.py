"""Volumes on the wire (API §5)."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainSerializer, StringConstraints

from skerry.artifacts.volumes.model import HolderKind, NewVolume, Volume, VolumeKind, VolumeStatus, VolumeTier
from skerry.identity.schemas.base import Wire
from skerry.kernel.clock import rfc3339

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
MachineName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
Ref = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class VolumeIn(Wire):
    """`site` may be left out where there is only one."""

    name: MachineName
    site: Ref | None = None
    bytes: Annotated[int, Field(strict=True, ge=1, le=2**62)]
    tier: VolumeTier = VolumeTier.STANDARD

    def to_new(self) -> NewVolume:
        return NewVolume(self.name, self.bytes, self.site, self.tier)


class VolumeReasonOut(BaseModel):
    code: str
    message: str


class AttachmentOut(BaseModel):
    kind: HolderKind
    id: str
    target: str
    read_only: bool
    since: Time


class VolumeActionOut(BaseModel):
    available: bool
    why_not: str | None


class VolumeOut(BaseModel):
    """`bytes` is what is metered. `wipe` says what was removed, where and when, once it is deleted."""

    id: str
    name: str
    kind: VolumeKind
    site: str
    bytes: int
    tier: VolumeTier
    status: VolumeStatus
    status_reason: VolumeReasonOut
    attached_to: list[AttachmentOut]
    actions: dict[str, VolumeActionOut]
    created_at: Time
    deleted_at: Time | None
    wipe: dict[str, Any] | None

    @classmethod
    def of(cls, volume: Volume) -> "VolumeOut":
        return cls(
            id=volume.id,
            name=volume.name,
            kind=volume.kind,
            site=volume.site,
            bytes=volume.bytes,
            tier=volume.tier,
            status=volume.status,
            status_reason=VolumeReasonOut(code=volume.reason.code, message=volume.reason.message),
            attached_to=[
                AttachmentOut(
                    kind=one.holder_kind,
                    id=one.holder,
                    target=one.target,
                    read_only=one.read_only,
                    since=one.created_at,
                )
                for one in volume.attachments
            ],
            actions={"delete": _delete(volume)},
            created_at=volume.created_at,
            deleted_at=volume.deleted_at,
            wipe=dict(volume.wipe) if volume.wipe is not None else None,
        )


def _delete(volume: Volume) -> VolumeActionOut:
    why_not = None
    if volume.status is not VolumeStatus.READY:
        why_not = f"it is {volume.status}"
    elif volume.attachments:
        why_not = f"it is attached to {volume.attachments[0].holder_kind} {volume.attachments[0].holder}"
    return VolumeActionOut(available=why_not is None, why_not=why_not)
