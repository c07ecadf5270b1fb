"""Instances, clusters, the volumes they use and the SSH keys that open them."""

from datetime import datetime
from typing import Any

import msgspec

from skerry.client.answers.base import Answer, Money, StatusReason

SETTLED = frozenset({"running", "stopped", "failed", "terminated"})
"""States in which nothing happens by itself."""


class Ssh(msgspec.Struct, frozen=True, kw_only=True):
    """How to log in. `host_key` is what belongs into known_hosts."""

    host: str = ""
    port: int = 22
    user: str = ""
    host_key: str = ""
    command: str = ""


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    volume: str = ""
    target: str = ""
    read_only: bool = False


class Machine(Answer, frozen=True, kw_only=True):
    """What instances and clusters have in common. `accelerators` are those of each node."""

    id: str
    name: str = ""
    sku: str = ""
    site: str = ""
    accelerators: int = 0
    capacity_class: str = ""
    reservation_id: str | None = None
    charge_by: str = ""
    image: str | None = None
    template: str | None = None
    ssh_keys: tuple[str, ...] = ()
    status: str = ""
    status_reason: StatusReason | None = None
    cost_so_far: Money | None = None
    home_volume: str | None = None
    volumes: tuple[Attached, ...] = ()
    max_duration_seconds: int | None = None
    max_cost: str | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    workload_id: str = ""
    created_at: datetime | None = None
    running_at: datetime | None = None
    ended_at: datetime | None = None


class Instance(Machine, frozen=True, kw_only=True):
    """`status`: pending, starting, running, stopping, stopped, terminated or failed."""

    node: str | None = None
    ssh: Ssh | None = None


class ClusterNode(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is its host name in the cluster, `node` the machine it is on."""

    name: str = ""
    node: str | None = None
    address: str | None = None
    ready: bool = False
    ssh: Ssh | None = None


class Rendezvous(msgspec.Struct, frozen=True, kw_only=True):
    host: str = ""
    port: int = 0


class Cluster(Machine, frozen=True, kw_only=True):
    """`hostfile` and `rendezvous`: once all nodes are there."""

    scope: str = ""
    nodes: tuple[ClusterNode, ...] = ()
    hostfile: str | None = None
    rendezvous: Rendezvous | None = None


class MachineEstimate(Answer, frozen=True, kw_only=True):
    """By the hour, and in all where the duration is limited. `kwh` and `gco2e`: in an hour."""

    sku: str
    site: str = ""
    nodes: int = 1
    accelerators: int = 0
    capacity_class: str = ""
    charge_by: str = ""
    hourly: Money
    total: Money | None = None
    kwh: float | None = None
    gco2e: int | None = None
    available_now: bool = True
    status_reason: StatusReason | None = None


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a volume."""

    kind: str = ""
    id: str = ""
    target: str = ""
    read_only: bool = False
    since: datetime | None = None


class Volume(Answer, frozen=True, kw_only=True):
    """`kind`: volume, or home of a machine. `wipe`: what was removed, once it is deleted."""

    id: str
    name: str = ""
    kind: str = ""
    site: str = ""
    bytes: int = 0
    tier: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    attached_to: tuple[Attachment, ...] = ()
    created_at: datetime | None = None
    deleted_at: datetime | None = None
    wipe: dict[str, Any] | None = None


class SshKey(Answer, frozen=True, kw_only=True):
    id: str
    name: str = ""
    type: str = ""
    fingerprint: str = ""
    public_key: str = ""
    created_at: datetime | None = None
