"""Asking a replica whether it works, over the same wire that requests go."""

import asyncio

# Named here although http.client would find it itself: nothing can be imported after privileges were dropped.
import encodings.idna  # noqa: F401
import http.client
import json
import socket
from typing import Protocol
from urllib.parse import urlsplit

COMPLETION_SECONDS = 30.0
HEALTH_SECONDS = 10.0
_MAX_ANSWER = 1024 * 1024


class ProbeFailed(Exception):
    """The message says how, for people."""


class Prober(Protocol):
    async def complete(self, address: str, key: str, model: str) -> None:
        """Have one token made. Raises ProbeFailed."""
        ...

    async def healthy(self, address: str, key: str) -> None:
        """See that its main loop turns. Raises ProbeFailed."""
        ...


class HttpProber:
    async def complete(self, address: str, key: str, model: str) -> None:
        body = json.dumps({"model": model, "prompt": "Hello", "max_tokens": 1, "temperature": 0})
        answer = await asyncio.to_thread(_ask, address, key, "POST", "/v1/completions", body, COMPLETION_SECONDS)
        try:
            made = json.loads(answer)["usage"]["completion_tokens"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ProbeFailed("its completion is not in the form of OpenAI's") from error
        if made != 1:
            raise ProbeFailed(f"it made {made} tokens instead of one")

    async def healthy(self, address: str, key: str) -> None:
        # llama.cpp answers `/metrics` from its main loop, between two batches; `/health` would not notice a hang.
        await asyncio.to_thread(_ask, address, key, "GET", "/metrics", None, HEALTH_SECONDS)


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
    if answer.status != 200:
        raise ProbeFailed(f"it answered {answer.status}: {content[:200].decode(errors='replace')}")
    return content
