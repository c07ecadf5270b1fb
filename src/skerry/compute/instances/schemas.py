"""Instances and clusters on the wire (API §5)."""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, Field, PlainSerializer, StringConstraints
from pydantic_core import PydanticCustomError

from skerry.artifacts.volumes.model import WantedVolume
from skerry.capacity.model import Scope as CapacityScope
from skerry.compute.instances import rules
from skerry.compute.instances.host.spec import RENDEZVOUS_PORT, Template
from skerry.compute.instances.model import (
    HOME_BYTES,
    Estimate,
    Instance,
    InstanceKind,
    InstanceStatus,
    InstanceView,
    NewInstance,
    NodeView,
)
from skerry.identity.schemas.base import Wire
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import rfc3339
from skerry.kernel.money import Money, parse_amount, plain

LONGEST_SCRIPT: Final = 64 * 1024
MOST_NODES: Final = 4096
_LONGEST_SECONDS: Final = 366 * 86_400


def _amount(text: str) -> str:
    try:
        amount = parse_amount(text)
    except ValueError as error:
        raise PydanticCustomError("not_an_amount", "it must be a decimal number such as 12.50") from error
    if amount <= 0:
        raise PydanticCustomError("out_of_range", "it must be more than 0")
    return text


def _storable(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("unstorable_text", "it has a NUL character")
    return text


Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
MachineName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
Ref = Annotated[str, StringConstraints(min_length=1, max_length=200)]
KeyRef = Annotated[str, StringConstraints(min_length=1, max_length=16 * 1024)]
ImageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
Script = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_SCRIPT), AfterValidator(_storable)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=_LONGEST_SECONDS)]
Cost = Annotated[str, StringConstraints(max_length=40), AfterValidator(_amount)]
Target = Annotated[str, StringConstraints(min_length=2, max_length=200)]
TagName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]{1,100}$")]
TagValue = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]{0,200}$")]


class VolumeRef(Wire):
    """A volume, by name or id, and where it is to be seen. One machine writes to it, or several read it."""

    volume: Ref
    target: Target
    read_only: bool = False


class _MachineIn(Wire):
    """What instances and clusters have in common."""

    name: MachineName
    sku: Ref | None = None
    site: Ref | None = None
    accelerators: Annotated[int, Field(strict=True, ge=0, le=1024)] | None = None
    capacity_class: CapacityClass | None = None
    reservation_id: Ref | None = None
    image: ImageName | None = None
    ssh_keys: Annotated[list[KeyRef], Field(min_length=1, max_length=50)]
    """Public keys, or names of those that the project keeps."""
    start_script: Script | None = None
    """`#!` script or `#cloud-config`, run as root at each start."""
    template: Template | None = None
    volumes: Annotated[tuple[VolumeRef, ...], Field(max_length=20)] = ()
    home_bytes: Annotated[int, Field(strict=True, ge=0, le=2**62)] = HOME_BYTES
    """Of the home folder, which outlives stops; 0: there is none."""
    max_duration_seconds: Seconds | None = None
    max_cost: Cost | None = None
    tags: Annotated[dict[TagName, TagValue], Field(max_length=50, default_factory=dict)]

    def _new(self, kind: InstanceKind, **more: Any) -> NewInstance:
        return NewInstance(
            kind=kind,
            name=self.name,
            ssh_keys=tuple(self.ssh_keys),
            sku=self.sku,
            site=self.site,
            accelerators=self.accelerators,
            capacity_class=self.capacity_class,
            reservation=self.reservation_id,
            image=self.image,
            start_script=self.start_script,
            template=self.template.value if self.template is not None else None,
            volumes=tuple(WantedVolume(one.volume, one.target, one.read_only) for one in self.volumes),
            home_bytes=self.home_bytes,
            max_duration_seconds=self.max_duration_seconds,
            max_cost=parse_amount(self.max_cost) if self.max_cost is not None else None,
            tags=self.tags,
            **more,
        )


class InstanceIn(_MachineIn):
    """`accelerators`: 1, 2, 4 or 8 of a node, all of them, or 0; 1 where it is not said."""

    def to_new(self) -> NewInstance:
        return self._new(InstanceKind.INSTANCE)


class ClusterIn(_MachineIn):
    """`nodes` whole nodes. `scope`: how near to each other; a wish unless `scope_required`."""

    nodes: Annotated[int, Field(strict=True, ge=1, le=MOST_NODES)]
    scope: CapacityScope = CapacityScope.ANY
    scope_required: bool = False

    def to_new(self) -> NewInstance:
        more = {"nodes": self.nodes, "scope": self.scope.value, "scope_required": self.scope_required}
        return self._new(InstanceKind.CLUSTER, **more)


class MachineReasonOut(BaseModel):
    code: str
    message: str


class MachineActionOut(BaseModel):
    available: bool
    why_not: str | None


class MachineMoney(BaseModel):
    amount: str
    currency: str

    @classmethod
    def of(cls, money: Money) -> "MachineMoney":
        return cls(amount=plain(money.amount), currency=money.currency)


class SshOut(BaseModel):
    """`host_key` is what to put into known_hosts; it stays the same over stops and starts."""

    host: str
    port: int
    user: str
    host_key: str
    command: str


class ClusterNodeOut(BaseModel):
    """`name` is its host name inside the cluster, `address` its address there, `node` the machine it is on."""

    name: str
    node: str | None
    address: str | None
    ready: bool
    ssh: SshOut | None


class AttachedOut(BaseModel):
    volume: str
    target: str
    read_only: bool


class RendezvousOut(BaseModel):
    """For torchrun's `--rdzv-endpoint`."""

    host: str
    port: int


class _MachineOut(BaseModel):
    """`cost_so_far`: of all its runs, up to this moment; storage is the volumes'. `energy_so_far` is null: nothing is
    measured yet. `workload_id` leads to its runs and its log."""

    id: str
    name: str
    sku: str
    site: str
    accelerators: int
    capacity_class: CapacityClass
    reservation_id: str | None
    charge_by: str
    image: str | None
    template: str | None
    ssh_keys: list[str]
    """Fingerprints."""
    status: InstanceStatus
    status_reason: MachineReasonOut
    actions: dict[str, MachineActionOut]
    cost_so_far: MachineMoney
    energy_so_far: None = None
    home_volume: str | None
    volumes: list[AttachedOut]
    max_duration_seconds: int | None
    max_cost: str | None
    tags: dict[str, str]
    workload_id: str
    created_at: Time
    running_at: Time | None
    ended_at: Time | None


class InstanceOut(_MachineOut):
    node: str | None
    ssh: SshOut | None

    @classmethod
    def of(cls, view: InstanceView) -> "InstanceOut":
        one = view.nodes[0]
        return cls(**_common(view), node=one.node, ssh=_ssh(one, view.instance))


class ClusterOut(_MachineOut):
    """`hostfile`: as mpirun and torchrun take it, slots are accelerators; null until all nodes are there."""

    scope: str
    nodes: list[ClusterNodeOut]
    hostfile: str | None
    rendezvous: RendezvousOut | None

    @classmethod
    def of(cls, view: InstanceView) -> "ClusterOut":
        instance = view.instance
        nodes = [
            ClusterNodeOut(name=one.name, node=one.node, address=one.address, ready=one.ready, ssh=_ssh(one, instance))
            for one in view.nodes
        ]
        there = all(one.address for one in view.nodes)
        return cls(
            **_common(view),
            scope=instance.scope,
            nodes=nodes,
            hostfile=hostfile(instance) if there else None,
            rendezvous=RendezvousOut(host=view.nodes[0].name, port=RENDEZVOUS_PORT) if there else None,
        )


class MachineEstimateOut(BaseModel):
    """What it would cost by the hour, and in all where its duration is limited. `available_now`: whether it would start
    at once, else `status_reason` says why not."""

    sku: str
    site: str
    nodes: int
    accelerators: int
    capacity_class: CapacityClass
    charge_by: str
    hourly: MachineMoney
    total: MachineMoney | None
    kwh: float | None
    """In an hour at full power; null where the SKU's power is not known."""
    gco2e: int | None
    available_now: bool
    status_reason: MachineReasonOut

    @classmethod
    def of(cls, estimate: Estimate) -> "MachineEstimateOut":
        plan = estimate.plan
        return cls(
            sku=plan.sku,
            site=plan.site,
            nodes=plan.new.nodes,
            accelerators=plan.accelerators,
            capacity_class=plan.capacity_class,
            charge_by=plan.charge_by,
            hourly=MachineMoney.of(estimate.hour),
            total=MachineMoney.of(estimate.total) if estimate.total is not None else None,
            kwh=estimate.watt_hours / 1000 if estimate.watt_hours else None,
            gco2e=estimate.grams if estimate.watt_hours and estimate.grams else None,
            available_now=estimate.available_now,
            status_reason=MachineReasonOut(code=estimate.reason.code, message=estimate.reason.message),
        )


def hostfile(instance: Instance) -> str:
    slots = max(1, instance.accelerators)
    return "".join(f"{name} slots={slots}\n" for name in instance.hostnames)


def _common(view: InstanceView) -> dict[str, Any]:
    instance = view.instance
    actions = rules.why_not(instance)
    return {
        "id": instance.id,
        "name": instance.name,
        "sku": instance.sku,
        "site": instance.site,
        "accelerators": instance.accelerators,
        "capacity_class": instance.capacity_class,
        "reservation_id": instance.reservation,
        "charge_by": instance.charge_by,
        "image": instance.image,
        "template": instance.template,
        "ssh_keys": list(instance.fingerprints),
        "status": instance.status,
        "status_reason": MachineReasonOut(code=instance.reason.code, message=instance.reason.message),
        "actions": {verb: MachineActionOut(available=why is None, why_not=why) for verb, why in actions.items()},
        "cost_so_far": MachineMoney.of(view.cost),
        "home_volume": instance.home,
        "volumes": [AttachedOut(volume=name, target=target, read_only=ro) for name, target, ro in view.volumes],
        "max_duration_seconds": instance.max_duration_seconds,
        "max_cost": plain(instance.max_cost) if instance.max_cost is not None else None,
        "tags": dict(instance.tags),
        "workload_id": instance.workload,
        "created_at": instance.created_at,
        "running_at": instance.running_at,
        "ended_at": instance.ended_at,
    }


def _ssh(node: NodeView, instance: Instance) -> SshOut | None:
    if node.host is None or node.port is None or node.user is None:
        return None
    return SshOut(
        host=node.host,
        port=node.port,
        user=node.user,
        host_key=instance.host_key,
        command=f"ssh -p {node.port} {node.user}@{node.host}",
    )
