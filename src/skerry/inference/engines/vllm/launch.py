"""Runs in vLLM's own interpreter, given as text to `python -I -c`: nothing but the standard library may be imported.

The key comes by standard input and is put into `sys.argv` in here, so that neither the command line nor the
environment of a process shows it. vLLM asks for its key below /v1 only; `Guard` asks for it everywhere but at /health.
"""

import ctypes
import hmac
import os
import runpy
import signal
import sys
import types
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


def guard_for(key: str) -> type:
    wanted = f"Bearer {key}".encode()

    class Guard:
        """ASGI middleware."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] == "/health"):
                await self.app(scope, receive, send)
                return
            given = dict(scope["headers"]).get(b"authorization", b"")
            if scope["type"] == "http" and hmac.compare_digest(given, wanted):
                await self.app(scope, receive, send)
                return
            if scope["type"] != "http":
                await send({"type": "websocket.close", "code": 1008})
                return
            head = [(b"content-type", b"application/json"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 401, "headers": head})
            await send({"type": "http.response.body", "body": b'{"error":{"message":"Unauthorized","code":401}}'})

    return Guard


def run() -> None:
    libc = ctypes.CDLL(None)
    # It must not outlive its host, and other tasks of the same user must not read the key out of its memory.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    key = sys.stdin.readline().strip()
    if not key or os.getppid() == 1:
        sys.exit("skerry: the host of this server is gone")
    guard = types.ModuleType("skerry_guard")
    guard.Guard = guard_for(key)  # type: ignore[attr-defined]
    sys.modules["skerry_guard"] = guard
    module = sys.argv[1]
    sys.argv = [module, *sys.argv[2:], "--api-key", key]
    runpy.run_module(module, run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    run()
