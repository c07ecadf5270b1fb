"""Requests about endpoints: where models are served."""

from collections.abc import Sequence

from skerry.client.answers.base import reader
from skerry.client.answers.inference import Endpoint, EndpointEstimate, Load
from skerry.client.call import CONTROL, Call, Page, act, at, change, create, estimate, get, listing, present, raw

ENDPOINTS = f"{CONTROL}/endpoints"


def list_endpoints(*, limit: int | None = None) -> Call[Page[Endpoint]]:
    """Those that the project may call."""
    return listing(ENDPOINTS, reader(Endpoint), limit=limit)


def get_endpoint(name: str) -> Call[Endpoint]:
    return get(at(ENDPOINTS, name), reader(Endpoint))


def create_endpoint(
    model: str,
    *,
    kind: str = "dedicated",
    name: str | None = None,
    min_replicas: int | None = None,
    max_replicas: int | None = None,
    target_concurrency: int | None = None,
    idle_timeout_seconds: int | None = None,
    queue_seconds: int | None = None,
    policy: str | None = None,
    capacity_class: str | None = None,
    accelerators: int | None = None,
    sku: str | None = None,
) -> Call[Endpoint]:
    """A dedicated endpoint is the project's own, paid by the time its replicas run. `estimate` tells the price."""
    wanted = {
        "model": model,
        "kind": kind,
        "name": name,
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "target_concurrency": target_concurrency,
        "idle_timeout_seconds": idle_timeout_seconds,
        "queue_seconds": queue_seconds,
        "policy": policy,
        "capacity_class": capacity_class,
        "accelerators": accelerators,
        "sku": sku,
    }
    return create(ENDPOINTS, reader(Endpoint), wanted)


def estimate_endpoint(
    model: str,
    *,
    kind: str = "dedicated",
    min_replicas: int | None = None,
    max_replicas: int | None = None,
    capacity_class: str | None = None,
    accelerators: int | None = None,
    sku: str | None = None,
) -> Call[EndpointEstimate]:
    """What `create` would cost by the hour. Makes nothing."""
    wanted = {
        "model": model,
        "kind": kind,
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "capacity_class": capacity_class,
        "accelerators": accelerators,
        "sku": sku,
    }
    return estimate(ENDPOINTS, reader(EndpointEstimate), wanted)


def update_endpoint(
    name: str,
    *,
    min_replicas: int | None = None,
    max_replicas: int | None = None,
    target_concurrency: int | None = None,
    idle_timeout_seconds: int | None = None,
    queue_seconds: int | None = None,
    policy: str | None = None,
    defaults: Sequence[str] = (),
) -> Call[Endpoint]:
    """What is left out stays. `defaults` names fields that go back to what holds without them."""
    wanted = {
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "target_concurrency": target_concurrency,
        "idle_timeout_seconds": idle_timeout_seconds,
        "queue_seconds": queue_seconds,
        "policy": policy,
    }
    return change(at(ENDPOINTS, name), reader(Endpoint), {**present(wanted), **dict.fromkeys(defaults)})


def drain_endpoint(name: str) -> Call[Endpoint]:
    """New requests are refused, those that run are finished, then its replicas end."""
    return act(at(ENDPOINTS, name, "drain"), reader(Endpoint))


def resume_endpoint(name: str) -> Call[Endpoint]:
    """Serve again: after a drain, after it was parked, or before the first request wakes it."""
    return act(at(ENDPOINTS, name, "resume"), reader(Endpoint))


def roll_out_endpoint(name: str, *, model: str | None = None) -> Call[Endpoint]:
    """Fresh replicas in place of those it has, of another model if one is named."""
    return act(at(ENDPOINTS, name, "rollout"), reader(Endpoint), {"model": model} if model else None)


def remove_endpoint(name: str) -> Call[Endpoint]:
    """Its name is free again; its usage stays."""
    return Call("DELETE", at(ENDPOINTS, name), reader(Endpoint))


def endpoint_load(name: str) -> Call[Load]:
    """What happens at it now. Of shared endpoints operators alone are told."""
    return get(at(ENDPOINTS, name, "load"), reader(Load))


def endpoint_logs(
    name: str, *, replica: str | None = None, tail: int | None = None, follow: bool = False
) -> Call[None]:
    """What a replica printed: its newest one's, unless one is named. `tail`: only the last lines."""
    where = at(ENDPOINTS, name, "logs")
    return raw(where, patient=follow, replica=replica, tail=tail, follow=follow or None)
