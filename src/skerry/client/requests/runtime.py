"""Requests about events and health."""

from skerry.client.answers.base import reader
from skerry.client.answers.runtime import Event, Health
from skerry.client.call import CONTROL, Call, Page, at, get, listing


def list_events(*, limit: int | None = None) -> Call[Page[Event]]:
    """The project's timeline."""
    return listing(f"{CONTROL}/events", reader(Event), limit=limit)


def list_resource_events(collection: str, resource: str, *, limit: int | None = None) -> Call[Page[Event]]:
    """The timeline of one resource, as in `("endpoints", "ep_…")`."""
    return listing(at(f"{CONTROL}/{collection}", resource, "events"), reader(Event), limit=limit)


def alive() -> Call[Health]:
    return get("/healthz", reader(Health))


def ready() -> Call[Health]:
    """Not being ready is an answer here, not an error."""
    call = get("/readyz", reader(Health))
    return Call(call.method, call.path, call.read, answers=frozenset({503}))
