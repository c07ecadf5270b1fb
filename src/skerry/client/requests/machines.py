"""Requests about instances, clusters, volumes and SSH keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.client.answers.base import reader
from skerry.client.answers.machines import SETTLED, Cluster, Instance, Machine, MachineEstimate, SshKey, Volume
from skerry.client.call import CONTROL, Call, Page, act, at, create, estimate, get, listing

INSTANCES = f"{CONTROL}/instances"
CLUSTERS = f"{CONTROL}/clusters"
VOLUMES = f"{CONTROL}/volumes"
SSH_KEYS = f"{CONTROL}/ssh-keys"


def create_instance(name: str, *, ssh_keys: Sequence[str], **wish: Any) -> Call[Instance]:
    """`ssh_keys`: public keys, or names of those that the project keeps. `wish`: sku, site, accelerators,
    capacity_class, reservation_id, image, start_script, template, volumes, home_bytes, max_duration_seconds, max_cost,
    tags."""
    return create(INSTANCES, reader(Instance), _wished(name, ssh_keys, wish))


def estimate_instance(name: str, *, ssh_keys: Sequence[str], **wish: Any) -> Call[MachineEstimate]:
    """What `create` would cost, and whether it could start now. Makes nothing."""
    return estimate(INSTANCES, reader(MachineEstimate), _wished(name, ssh_keys, wish))


def list_instances(*, status: str | None = None, limit: int | None = None) -> Call[Page[Instance]]:
    """Newest first; terminated ones only where that status is asked for."""
    return listing(INSTANCES, reader(Instance), status=status, limit=limit)


def get_instance(instance: str) -> Call[Instance]:
    """By id or name."""
    return get(at(INSTANCES, instance), reader(Instance))


def stop_instance(instance: str) -> Call[Instance]:
    """Its home folder and volumes are kept."""
    return act(at(INSTANCES, instance, "stop"), reader(Instance))


def start_instance(instance: str) -> Call[Instance]:
    return act(at(INSTANCES, instance, "start"), reader(Instance))


def terminate_instance(instance: str) -> Call[Instance]:
    """For good, with its home folder."""
    return act(at(INSTANCES, instance, "terminate"), reader(Instance))


def create_cluster(name: str, *, nodes: int, ssh_keys: Sequence[str], **wish: Any) -> Call[Cluster]:
    """As `create_instance`, of whole nodes; with scope and scope_required."""
    return create(CLUSTERS, reader(Cluster), {**_wished(name, ssh_keys, wish), "nodes": nodes})


def estimate_cluster(name: str, *, nodes: int, ssh_keys: Sequence[str], **wish: Any) -> Call[MachineEstimate]:
    """What `create` would cost, and whether it could start now. Makes nothing."""
    return estimate(CLUSTERS, reader(MachineEstimate), {**_wished(name, ssh_keys, wish), "nodes": nodes})


def list_clusters(*, status: str | None = None, limit: int | None = None) -> Call[Page[Cluster]]:
    """Newest first; terminated ones only where that status is asked for."""
    return listing(CLUSTERS, reader(Cluster), status=status, limit=limit)


def get_cluster(cluster: str) -> Call[Cluster]:
    """By id or name."""
    return get(at(CLUSTERS, cluster), reader(Cluster))


def stop_cluster(cluster: str) -> Call[Cluster]:
    """Its home folder and volumes are kept."""
    return act(at(CLUSTERS, cluster, "stop"), reader(Cluster))


def start_cluster(cluster: str) -> Call[Cluster]:
    return act(at(CLUSTERS, cluster, "start"), reader(Cluster))


def terminate_cluster(cluster: str) -> Call[Cluster]:
    """For good, with its home folder."""
    return act(at(CLUSTERS, cluster, "terminate"), reader(Cluster))


def create_volume(name: str, *, bytes: int, site: str | None = None, tier: str | None = None) -> Call[Volume]:
    """`site` may be left out where there is only one."""
    return create(VOLUMES, reader(Volume), {"name": name, "bytes": bytes, "site": site, "tier": tier})


def list_volumes(*, site: str | None = None, limit: int | None = None) -> Call[Page[Volume]]:
    """Newest first, home folders included."""
    return listing(VOLUMES, reader(Volume), site=site, limit=limit)


def get_volume(volume: str) -> Call[Volume]:
    """By id or name."""
    return get(at(VOLUMES, volume), reader(Volume))


def delete_volume(volume: str) -> Call[Volume]:
    """For good. Refused while it is attached."""
    return Call("DELETE", at(VOLUMES, volume), reader(Volume))


def create_ssh_key(name: str, public_key: str) -> Call[SshKey]:
    return create(SSH_KEYS, reader(SshKey), {"name": name, "public_key": public_key})


def list_ssh_keys(*, limit: int | None = None) -> Call[Page[SshKey]]:
    return listing(SSH_KEYS, reader(SshKey), limit=limit)


def get_ssh_key(key: str) -> Call[SshKey]:
    """By id, name or fingerprint."""
    return get(at(SSH_KEYS, key), reader(SshKey))


def delete_ssh_key(key: str) -> Call[SshKey]:
    """Machines that were made with it keep it."""
    return Call("DELETE", at(SSH_KEYS, key), reader(SshKey))


def is_settled(machine: Machine) -> bool:
    return machine.status in SETTLED


def _wished(name: str, ssh_keys: Sequence[str], wish: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "ssh_keys": list(ssh_keys), **wish}
