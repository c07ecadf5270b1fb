"""Requests that wait for a replica: in fair order, bounded in number and time."""

from collections.abc import Callable, Iterable
from typing import Final

from skerry.inference.gateway.charge import Charge
from skerry.inference.gateway.errors import ApiError, unavailable
from skerry.inference.gateway.fairness import Tier
from skerry.inference.gateway.state import RouteState, Waiter
from skerry.inference.model import EndpointStatus

HOPELESS: Final = (EndpointStatus.FAILED, EndpointStatus.STOPPED)
"""No replica is to come, unless the route says that one is called for."""


class WaitingRoom:
    """What is the same for the queues of all endpoints."""

    def __init__(self, seconds: float, now: Callable[[], float], awaited: Callable[[], None]) -> None:
        """`awaited` is called when somebody begins to wait at an endpoint without a replica."""
        self._seconds = seconds
        self._now = now
        self._awaited = awaited

    def enter(self, turn: Waiter, route: RouteState, charge: Charge, batch: bool, since: float) -> None:
        """`since`: when it first came. Raises ApiError 503 where the queue is full or no replica is to come."""
        about = route.route
        if not route.servers and not about.wakes and about.status in HOPELESS:
            # Why is the operator's to read: the reason may hold a log's last lines.
            message = f"The model '{about.name}' has no replica that works at the moment. Please try again."
            raise unavailable(message, code="model_unavailable", retry_after=10)
        queue = route.queue
        tier = Tier.BATCH if batch else charge.key.tier
        if not queue.push(turn, charge.key.project, tier, charge.waits_as(tier), since):
            what = "is starting" if not route.servers else "is busy"
            message = f"The model '{about.name}' {what}, and {len(queue)} requests wait for it already"
            if queue.has_room(tier):
                message += ", many of them this project's. Send fewer at once."
                raise ApiError(429, message, code="too_many_waiting", retry_after=5)
            raise unavailable(f"{message}.", code="queue_full", retry_after=5)
        if not route.servers:
            self._awaited()

    def admit(self, routes: Iterable[RouteState], gone: Iterable[RouteState]) -> None:
        """Routes have changed: send on whoever can go, and tell those whose endpoint is no more."""
        now = self._now()
        for route in gone:
            message = f"The model '{route.route.name}' was removed."
            self._dismiss(route, unavailable(message, code="model_removed"))
        for route in routes:
            if not len(route.queue):
                continue
            about = route.route
            if route.servers:
                route.pump(now)
            elif not about.wakes and about.status in HOPELESS:
                message = f"The model '{about.name}' has no replica that works at the moment. Please try again."
                self._dismiss(route, unavailable(message, code="model_unavailable", retry_after=10))

    def sweep(self, routes: Iterable[RouteState]) -> None:
        """Send home whoever has waited too long; try again for those whose replicas were only passed over."""
        now = self._now()
        for route in routes:
            waiting = len(route.queue)
            busy, slots = route.load()
            route.surge.observe(busy + waiting, slots, now)
            if not waiting:
                continue
            seconds = float(route.route.queue_seconds or self._seconds)
            for turn in route.queue.expire(now, seconds):
                what = "was not ready" if not route.servers else "had no replica free"
                message = f"The model '{route.route.name}' {what} within {seconds:.0f} s."
                turn.dismissed(unavailable(message, code="model_not_ready", retry_after=10))
            route.pump(now)

    def _dismiss(self, route: RouteState, error: ApiError) -> None:
        now = self._now()
        for _ in range(len(route.queue)):
            turn = route.queue.pop(now)
            if turn is None:
                return
            turn.dismissed(error)
