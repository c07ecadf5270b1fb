"""Requests that wait for a replica: first come, first served, bounded in number and time."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from skerry.inference.gateway.errors import unavailable
from skerry.inference.gateway.snapshot import RouteState
from skerry.inference.model import EndpointStatus

if TYPE_CHECKING:
    from skerry.inference.gateway.exchange import InferenceExchange

HOPELESS = (EndpointStatus.FAILED, EndpointStatus.STOPPED)
"""No replica is to come."""


class WaitingRoom:
    """One queue per endpoint."""

    def __init__(self, limit: int, seconds: float, now: Callable[[], float]) -> None:
        self._limit, self._seconds, self._now = limit, seconds, now
        self._queues: dict[str, dict[InferenceExchange, None]] = {}
        self._member: dict[InferenceExchange, str] = {}

    def __len__(self) -> int:
        return len(self._member)

    def depths(self) -> dict[str, int]:
        return {name: len(queue) for name, queue in self._queues.items() if queue}

    def enter(self, exchange: "InferenceExchange", route: RouteState) -> None:
        """Raises ApiError 503 where the queue is full or no replica is to come."""
        about = route.route
        if about.status in HOPELESS:
            # Why is the operator's to read: the reason may hold a log's last lines.
            message = f"The model '{about.name}' has no replica that works at the moment. Please try again."
            raise unavailable(message, code="model_unavailable", retry_after=10)
        queue = self._queues.setdefault(about.name, {})
        if len(queue) >= self._limit:
            message = f"The model '{about.name}' is starting and {len(queue)} requests wait for it already."
            raise unavailable(message, code="queue_full", retry_after=5)
        if not exchange.waits_since:
            exchange.waits_since = self._now()
        queue[exchange] = None
        self._member[exchange] = about.name

    def leave(self, exchange: "InferenceExchange") -> None:
        name = self._member.pop(exchange, None)
        if name is not None:
            self._queues[name].pop(exchange, None)

    def admit(self, routes: dict[str, RouteState]) -> None:
        """Routes have changed: send on whoever can go."""
        for name, queue in list(self._queues.items()):
            route = routes.get(name)
            if route is None or route.replicas or route.route.status in HOPELESS:
                for exchange in list(queue):
                    self.leave(exchange)
                    if route is None:
                        message = f"The model '{name}' was removed."
                        exchange.give_up(unavailable(message, code="model_removed"))
                    else:
                        exchange.reroute(route)

    def sweep(self, routes: dict[str, RouteState]) -> None:
        """Send home whoever has waited too long; try again for those whose replicas were only passed over."""
        now = self._now()
        for exchange, name in list(self._member.items()):
            route = routes.get(name)
            if now - exchange.waits_since > self._seconds:
                message = f"The model '{name}' was not ready within {self._seconds:.0f} s."
                exchange.give_up(unavailable(message, code="model_not_ready", retry_after=10))
            elif route is not None and route.pick(now) is not None:
                self.leave(exchange)
                exchange.reroute(route)
