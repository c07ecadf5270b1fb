"""Values of leased machines: an instance is one, a cluster is several that know each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from skerry.artifacts.volumes.model import WantedVolume
from skerry.compute.model import Workload
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import ProjectId, VolumeId, WorkloadId
from skerry.kernel.money import Money
from skerry.kernel.states import StateMachine
from skerry.runtime.state import Reason

HOME_BYTES: Final = 10 * 1024**3


class InstanceKind(StrEnum):
    INSTANCE = "instance"
    """A part of a node, or a whole one."""
    CLUSTER = "cluster"
    """Whole nodes in one network, with SSH between them."""


class InstanceStatus(StrEnum):
    """Where it is (API §5); derived from its workload."""

    PENDING = "pending"
    """Waits for capacity, or for its next start."""
    STARTING = "starting"
    """It has its nodes and comes up; it costs nothing yet."""
    RUNNING = "running"
    """Its SSH server answers, on all of its nodes. It is metered from here."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Its capacity is given back, its home folder and volumes are kept."""
    TERMINATED = "terminated"
    """Gone, with its home folder."""
    FAILED = "failed"
    """It did not come up, or ended by itself too often; home folder and volumes are kept."""


INSTANCE_TRANSITIONS: Final = StateMachine(
    {
        InstanceStatus.PENDING: {InstanceStatus.STARTING, InstanceStatus.STOPPING},
        InstanceStatus.STARTING: {InstanceStatus.RUNNING, InstanceStatus.PENDING, InstanceStatus.STOPPING},
        # Its node was lost or its capacity taken back: it starts again by itself.
        InstanceStatus.RUNNING: {InstanceStatus.STARTING, InstanceStatus.PENDING, InstanceStatus.STOPPING},
        InstanceStatus.STOPPING: {InstanceStatus.STOPPED, InstanceStatus.FAILED},
        InstanceStatus.STOPPED: {InstanceStatus.PENDING, InstanceStatus.TERMINATED},
        InstanceStatus.FAILED: {InstanceStatus.PENDING, InstanceStatus.TERMINATED},
        InstanceStatus.TERMINATED: set(),
    }
)


class Wish(StrEnum):
    """What its owner wants of it."""

    RUN = "run"
    STOP = "stop"
    TERMINATE = "terminate"


class InstanceReason(StrEnum):
    """Why it is where it is, beside the reasons of its workload (`ReasonCode`)."""

    NEW = "new"
    COMING_UP = "coming_up"
    """Its nodes are there; the SSH server does not answer yet."""
    START_SCRIPT_FAILED = "start_script_failed"
    """It runs, and its start script did not end well: its log is in `/var/log/skerry-start.log`."""
    READY = "ready"
    STOP_REQUESTED = "stop_requested"
    STOPPED = "stopped"
    MAX_DURATION = "max_duration"
    """Its `max_duration_seconds` were over. Start it again to go on."""
    BUDGET = "budget"
    """It would have cost more than `max_cost`, or than its budget has."""
    REFUSED = "refused"
    """The node cannot run it as it is asked for; the message says why."""
    ENDED_BY_ITSELF = "ended_by_itself"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class NewInstance:
    """What somebody asks for; `rules` and `checking` say whether it can be."""

    kind: InstanceKind
    name: str
    ssh_keys: tuple[str, ...]
    """Public keys, or names of those that the project keeps."""
    sku: str | None = None
    site: str | None = None
    accelerators: int | None = None
    """On each node. None: one for an instance, all of them for a cluster."""
    nodes: int = 1
    scope: str = "any"
    scope_required: bool = False
    capacity_class: CapacityClass | None = None
    reservation: str | None = None
    image: str | None = None
    start_script: str | None = None
    template: str | None = None
    volumes: tuple[WantedVolume, ...] = ()
    home_bytes: int = HOME_BYTES
    max_duration_seconds: int | None = None
    max_cost: Decimal | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """What one of its nodes gives it. Bytes; cores."""

    memory_bytes: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that was checked: names resolved, defaults filled in. `share` is of one node."""

    new: NewInstance
    sku: str
    site: str
    accelerators: int
    capacity_class: CapacityClass
    charge_by: str
    public_keys: tuple[str, ...]
    share: Share
    trusted: bool
    watts: int
    """What all of it may draw, the site's PUE included; 0: unknown."""
    grams_per_kwh: Decimal
    """CO2e of the site's grid, the mean of a day; 0: unknown."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance or a cluster. `accelerators` are those on each of its `nodes`."""

    id: str
    project: ProjectId
    kind: InstanceKind
    name: str
    sku: str
    site: str
    accelerators: int
    nodes: int
    scope: str
    capacity_class: CapacityClass
    charge_by: str
    reservation: str | None
    image: str | None
    template: str | None
    fingerprints: tuple[str, ...]
    """Of the SSH keys that may log in, those of its creation."""
    host_key: str
    """Public; the same at every start."""
    workload: WorkloadId
    home: VolumeId | None
    max_duration_seconds: int | None
    max_cost: Decimal | None
    tags: Mapping[str, str]
    wish: Wish
    status: InstanceStatus
    reason: Reason
    created_at: datetime
    updated_at: datetime
    running_at: datetime | None = None
    """When it was last ready."""
    ended_at: datetime | None = None
    """When it was terminated."""

    @property
    def hostnames(self) -> tuple[str, ...]:
        if self.kind is InstanceKind.INSTANCE:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(self.nodes))


@dataclass(frozen=True, slots=True)
class NodeView:
    """One of its nodes, as it is now. Without `host` nobody can log in yet."""

    name: str
    node: str | None
    ready: bool = False
    address: str | None = None
    """Inside its network."""
    host: str | None = None
    port: int | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceView:
    """With what is known of its run. `cost`: of all its runs, up to this moment."""

    instance: Instance
    workload: Workload
    nodes: tuple[NodeView, ...]
    cost: Money
    volumes: tuple[tuple[str, str, bool], ...] = ()
    """Name, target, and whether it is read-only."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What it would cost by the hour and in all (None: open-ended), and whether it could start now."""

    plan: Plan
    hour: Money
    total: Money | None
    watt_hours: int
    """In an hour."""
    grams: int
    """CO2e in an hour."""
    available_now: bool
    reason: Reason
