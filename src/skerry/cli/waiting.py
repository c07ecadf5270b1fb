"""Waiting for an endpoint, with something to look at."""

import time
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console

from skerry.cli.failures import Failure
from skerry.cli.speech import dim, printable
from skerry.client import NotFound, Skerry
from skerry.client.answers.inference import Endpoint

SERVING = ("ready", "degraded")
POLL_SECONDS = 0.25


def wait_until_ready(
    client: Skerry, name: str, timeout: float, sleep: Callable[[float], None] = time.sleep
) -> Endpoint:
    """The endpoint once it serves. Raises Failure where it fails, or is not there after `timeout` seconds."""
    screen = Console(stderr=True, highlight=False)
    words, said = f"{name}: starting", ""
    deadline = time.monotonic() + timeout
    with screen.status(words) if screen.is_terminal else nullcontext() as spinner:
        while True:
            endpoint = _look(client, name)
            if endpoint is not None and is_callable(endpoint):
                return endpoint
            words = printable(_words(name, endpoint))
            if endpoint is not None and endpoint.status == "failed":
                raise Failure(words, suggestion=f"`skerry endpoints show {name}` shows more.")
            if time.monotonic() >= deadline:
                raise Failure(
                    f"After {timeout:.0f} s, {words}",
                    suggestion=f"It goes on by itself: `skerry endpoints show {name}`.",
                )
            if spinner is not None:
                spinner.update(words)
            elif words != said:
                dim(words)
            said = words
            sleep(POLL_SECONDS)


def is_callable(endpoint: Endpoint) -> bool:
    """Whether a request is answered now, or starts it."""
    asleep = endpoint.status_reason is not None and endpoint.status_reason.code == "scaled_to_zero"
    return endpoint.status in SERVING or (endpoint.status == "stopped" and asleep)


def _look(client: Skerry, name: str) -> Endpoint | None:
    """None: it is not there yet, right after its model was added."""
    try:
        return client.endpoints.get(name)
    except NotFound:
        return None


def _words(name: str, endpoint: Endpoint | None) -> str:
    if endpoint is None:
        return f"{name} has no endpoint yet"
    reason = endpoint.status_reason.message if endpoint.status_reason else ""
    return f"{name} is {endpoint.status}{': ' if reason else ''}{reason}"
