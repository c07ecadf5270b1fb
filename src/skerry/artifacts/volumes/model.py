"""Values of volumes: room at a site that outlives the machines that use it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from skerry.kernel.ids import ProjectId, VolumeId
from skerry.kernel.states import StateMachine
from skerry.runtime.state import Reason


class VolumeKind(StrEnum):
    VOLUME = "volume"
    """Made by the customer; stays until it is deleted."""
    HOME = "home"
    """The home folder of one instance or cluster; comes and goes with it."""


class VolumeTier(StrEnum):
    """What it lies on."""

    STANDARD = "standard"


class VolumeStatus(StrEnum):
    READY = "ready"
    """It can be attached. Its folder is made when it is first used."""
    DELETING = "deleting"
    """Nobody can use it any more, it costs nothing any more, and what was in it is being removed."""
    DELETED = "deleted"
    """What was in it is gone, and `wipe` says how; kept because usage and the timeline name it."""


TRANSITIONS: Final = StateMachine(
    {
        VolumeStatus.READY: {VolumeStatus.DELETING},
        VolumeStatus.DELETING: {VolumeStatus.DELETED},
        VolumeStatus.DELETED: set(),
    }
)


class VolumeReason(StrEnum):
    """Why a volume is where it is."""

    CREATED = "created"
    REQUESTED = "requested"
    """Somebody deleted it."""
    OWNER_GONE = "owner_gone"
    """The instance or cluster whose home it was is terminated."""
    WIPING = "wiping"
    """What is in it is being removed where it lies."""
    WIPE_FAILED = "wipe_failed"
    """It could not be removed; that is tried again. Operators see the workload's log."""
    WIPED = "wiped"
    NEVER_USED = "never_used"
    """It was never attached, so there is nothing to remove."""


class HolderKind(StrEnum):
    """Who can have a volume."""

    INSTANCE = "instance"
    CLUSTER = "cluster"
    JOB = "job"


class WipeState(StrEnum):
    """How far the removal of what is in a volume is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class WipeLook:
    """`record`: what was removed, where and when; kept with the volume."""

    state: WipeState
    message: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attachment:
    """Somebody's use of a volume, from when it was made until it is gone; stopping in between changes nothing."""

    volume: VolumeId
    holder_kind: HolderKind
    holder: str
    target: str
    read_only: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Volume:
    """`bytes` is what was asked for: it is metered whether used or not."""

    id: VolumeId
    project: ProjectId
    name: str
    kind: VolumeKind
    site: str
    bytes: int
    tier: VolumeTier
    status: VolumeStatus
    reason: Reason
    created_at: datetime
    updated_at: datetime
    metered_through: datetime | None = None
    used_at: datetime | None = None
    """When it was first attached; None: nothing was ever written to it."""
    deleted_at: datetime | None = None
    """Since when it can no longer be used and is no longer metered."""
    wipe: Mapping[str, Any] | None = None
    attachments: tuple[Attachment, ...] = ()

    def described(self) -> dict[str, Any]:
        """For events and the audit trail."""
        return {"name": self.name, "kind": self.kind.value, "site": self.site, "bytes": self.bytes, "tier": self.tier}


@dataclass(frozen=True, slots=True)
class NewVolume:
    """`site` None: the only one there is."""

    name: str
    bytes: int
    site: str | None = None
    tier: VolumeTier = VolumeTier.STANDARD


@dataclass(frozen=True, slots=True)
class WantedVolume:
    """A volume, by name or id, and the absolute path under which it is to be seen."""

    ref: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Attached:
    """A volume that was attached, and where its holder sees it."""

    volume: Volume
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class VolumeLimits:
    """What the volumes of one project may have in all, homes included."""

    bytes: int
    count: int
