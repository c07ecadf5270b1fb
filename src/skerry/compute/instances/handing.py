"""What is handed to compute and to the nodes for one instance: keys made here once, the host program, its file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from skerry.artifacts.volumes.model import Attached, Volume
from skerry.compute.instances.checking import HostPolicy
from skerry.compute.instances.host.spec import (
    FILE,
    ClusterMember,
    Home,
    HostOptions,
    InstanceLimits,
    InstanceSpec,
    Template,
    VolumeMount,
    encode,
)
from skerry.compute.instances.model import Instance, InstanceKind, Plan
from skerry.compute.model import ChargeBy, Drop, WorkloadKind, WorkloadSpec
from skerry.kernel.money import plain

PROGRAM: Final = "skerry.compute.instances.host"
PREPARE: Final = "skerry.artifacts.volumes.prepare"
VOLUMES_FILE: Final = "volumes.json"
MAX_RESTARTS: Final = 3
GRACE_SECONDS: Final = 20.0
_PROCESSES: Final = 8192


@dataclass(frozen=True, slots=True)
class KeyPair:
    """`private` in OpenSSH's format."""

    private: str
    public: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r})"


@dataclass(frozen=True, slots=True)
class Places:
    """Its volumes: the home, and each other with where it is seen. `root`: where they lie on the node."""

    root: Path | None
    home: Volume | None
    volumes: tuple[Attached, ...] = ()

    def path(self, volume: Volume) -> str:
        assert self.root is not None, "there is no volume without a place for volumes"
        return str(self.root / volume.project / volume.id)

    def orders(self, members: int) -> str:
        """What `prepare` is to make on the nodes. Each of a cluster's members has a part of its home to itself."""
        every = [*([self.home] if self.home is not None else []), *(one.volume for one in self.volumes)]
        return json.dumps(
            [
                {
                    "root": str(self.root),
                    "project": one.project,
                    "volume": one.id,
                    "bytes": one.bytes,
                    "home": one is self.home,
                    "members": members if one is self.home else 0,
                }
                for one in every
            ]
        )


def new_key_pair(comment: str) -> KeyPair:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return KeyPair(private, f"{public} {comment}")


def workload_spec(
    instance: Instance, plan: Plan, policy: HostPolicy, places: Places, host_key: KeyPair, python: str
) -> WorkloadSpec:
    """One task a node: the host program, as root where the engine is. The file is the same for all nodes; each finds
    its own place in the cluster by `SKERRY_NODE_RANK`."""
    spec = host_spec(instance, plan, policy, places, host_key)
    return WorkloadSpec(
        kind=WorkloadKind.INSTANCE,
        name=f"{instance.kind} {instance.name}",
        resource=instance.id,
        command=(python, "-I", "-m", PREPARE, PROGRAM),
        charge_by=ChargeBy(plan.charge_by),
        capacity_class=plan.capacity_class,
        accelerators=plan.accelerators * instance.nodes,
        tasks=instance.nodes,
        nodes=instance.nodes,
        scope=instance.scope,
        scope_required=plan.new.scope_required,
        files={
            FILE: encode(spec).decode(),
            VOLUMES_FILE: places.orders(instance.nodes if instance.kind is InstanceKind.CLUSTER else 0),
        },
        max_restarts=MAX_RESTARTS,
        drop=Drop.NEVER,
        grace_seconds=GRACE_SECONDS,
        sku=plan.sku,
        site=plan.site,
        reservation=instance.reservation,
        max_duration_seconds=instance.max_duration_seconds,
        max_cost=plain(instance.max_cost) if instance.max_cost is not None else None,
    )


def host_spec(instance: Instance, plan: Plan, policy: HostPolicy, places: Places, host_key: KeyPair) -> InstanceSpec:
    new = plan.new
    return InstanceSpec(
        id=instance.id,
        hostname=instance.hostnames[0],
        authorized_keys=list(plan.public_keys),
        host_key=host_key.private,
        partition=instance.project,
        trusted=plan.trusted,
        image=new.image,
        start_script=new.start_script,
        template=Template(new.template) if new.template is not None else None,
        home=Home(path=places.path(places.home), bytes=new.home_bytes) if places.home is not None else None,
        volumes=[
            VolumeMount(path=places.path(one.volume), target=one.target, read_only=one.read_only)
            for one in places.volumes
        ],
        limits=InstanceLimits(memory_bytes=plan.share.memory_bytes, cpus=float(plan.share.cpus), processes=_PROCESSES),
        cluster=_member(instance) if instance.kind is InstanceKind.CLUSTER else None,
        options=_options(policy, trusted=plan.trusted),
    )


def _member(instance: Instance) -> ClusterMember:
    """Its own key pair, which opens the cluster's nodes to each other and nothing else."""
    pair = new_key_pair(f"cluster {instance.name}")
    names = list(instance.hostnames)
    return ClusterMember(index=0, size=len(names), names=names, private_key=pair.private, public_key=pair.public)


def _options(policy: HostPolicy, *, trusted: bool) -> HostOptions:
    return msgspec.structs.replace(policy.options, allowed=policy.drivers(trusted=trusted))
