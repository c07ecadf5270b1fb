"""Asking a replica whether it works, over the same wire that requests go."""

import asyncio

# Named here although http.client would find it itself: nothing can be imported after privileges were dropped.
import encodings.idna  # noqa: F401
import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from skerry.inference.engines.base import EngineProfile, Task

COMPLETION_SECONDS = 30.0
HEALTH_SECONDS = 10.0
_MAX_ANSWER = 1024 * 1024


class ProbeFailed(Exception):
    """The message says how, for people."""


class Prober(Protocol):
    async def complete(self, address: str, key: str, model: str, task: Task = Task.COMPLETION) -> None:
        """Have one token made, or an embedding. Raises ProbeFailed."""
        ...

    async def healthy(self, address: str, key: str) -> int | None:
        """See that its main loop turns; the requests it says it has. Raises ProbeFailed."""
        ...


def task_of(profile: EngineProfile) -> Task:
    """What proves cheapest that an engine works."""
    order = (Task.COMPLETION, Task.CHAT, Task.EMBEDDING)
    return next((task for task in order if task in profile.tasks), Task.COMPLETION)


class HttpProber:
    async def complete(self, address: str, key: str, model: str, task: Task = Task.COMPLETION) -> None:
        path, question = _QUESTIONS[task]
        body = json.dumps({"model": model, **question})
        answer = await asyncio.to_thread(_ask, address, key, "POST", path, body, COMPLETION_SECONDS)
        try:
            found = json.loads(answer)
            made = len(found["data"]) if task is Task.EMBEDDING else found["usage"]["completion_tokens"]
            empty = task is Task.EMBEDDING and not found["data"][0]["embedding"]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise ProbeFailed("its completion is not in the form of OpenAI's") from error
        if made != 1 or empty:
            raise ProbeFailed(f"it made {made} {'embeddings' if task is Task.EMBEDDING else 'tokens'} instead of one")

    async def healthy(self, address: str, key: str) -> int | None:
        # llama.cpp answers `/metrics` from its main loop, between two batches; `/health` would not notice a hang.
        try:
            page = await asyncio.to_thread(_ask, address, key, "GET", "/metrics", None, HEALTH_SECONDS)
        except _NoSuchPath:
            await asyncio.to_thread(_ask, address, key, "GET", "/health", None, HEALTH_SECONDS)
            return None
        return requests_of(page.decode(errors="replace"))


_QUESTIONS: Final[Mapping[Task, tuple[str, dict[str, Any]]]] = {
    Task.COMPLETION: ("/v1/completions", {"prompt": "Hello", "max_tokens": 1, "temperature": 0}),
    Task.CHAT: (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0},
    ),
    Task.EMBEDDING: ("/v1/embeddings", {"input": "Hello"}),
}
_LOADS: Final = (
    "llamacpp:requests_processing",
    "llamacpp:requests_deferred",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
)


def requests_of(page: str) -> int | None:
    """Requests that an engine has, by its metrics page: those it works on and those that wait in it."""
    found = [line for line in page.splitlines() if line.partition("{")[0].partition(" ")[0] in _LOADS]
    try:
        return sum(int(float(line.rsplit(None, 1)[1])) for line in found) if found else None
    except (ValueError, IndexError, OverflowError):
        return None


class _NoSuchPath(ProbeFailed):
    """The engine does not have this page."""


def _ask(address: str, key: str, method: str, path: str, body: str | None, seconds: float) -> bytes:
    """The body of a 200. Raises ProbeFailed for all else. Blocking."""
    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=seconds)
    try:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Connection": "close"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read(_MAX_ANSWER)
    except TimeoutError as error:
        raise ProbeFailed(f"it did not answer within {seconds:.0f} s") from error
    except (OSError, http.client.HTTPException, socket.gaierror) as error:
        raise ProbeFailed(f"it cannot be reached: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status in (404, 501) and method == "GET":
        raise _NoSuchPath(f"it answered {answer.status}")
    if answer.status != 200:
        raise ProbeFailed(f"it answered {answer.status}: {content[:200].decode(errors='replace')}")
    return content
