"""What a gateway has to do, as the autoscaler wants to know it."""

from collections.abc import Iterable

from skerry.inference.gateway.state import RouteState
from skerry.inference.model import Demand


def demands(routes: Iterable[RouteState], now: float) -> list[Demand]:
    """Of the endpoints that have been asked for something in the last minute. `now` is the gateway's clock."""
    found: list[Demand] = []
    for route in routes:
        busy, _ = route.load()
        waiting = len(route.queue)
        requests, tokens, first = route.metrics.last_minute(now)
        if not (busy or waiting or requests):
            continue
        found.append(
            Demand(
                endpoint=route.route.endpoint,
                in_flight=busy,
                waiting=waiting,
                longest_wait_seconds=round(route.queue.oldest(now), 2) if waiting else 0.0,
                requests_per_minute=requests,
                tokens_per_second=round(tokens, 1),
                first_token_ms=round(first, 1),
                batch_waiting=route.queue.waiting_by_tier()[2],
            )
        )
    return found
