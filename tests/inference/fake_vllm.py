"""Stands for `vllm.entrypoints.openai.api_server`: a tiny OpenAI server that takes vLLM's command line.

Copied into a virtual environment of its own by `test_vllm_host.py`; standard library only.
"""

import argparse
import asyncio
import importlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("model", "served-model-name", "host", "middleware", "api-key", "generation-config", "tool-call-parser"):
    parser.add_argument(f"--{name}")
for name in ("port", "max-model-len", "max-num-seqs", "tensor-parallel-size", "max-lora-rank", "max-loras"):
    parser.add_argument(f"--{name}", type=int)
for name in ("enable-prefix-caching", "enable-prompt-tokens-details", "no-enable-log-requests", "enable-lora",
             "disable-uvicorn-access-log", "enforce-eager", "enable-auto-tool-choice"):  # fmt: skip
    parser.add_argument(f"--{name}", action="store_true")
options = parser.parse_args()
Path(os.environ["HOME"], "seen.json").write_text(
    json.dumps(
        {
            "options": vars(options),
            "env": dict(os.environ),
            "cmdline": Path("/proc/self/cmdline").read_text(),
            "paths": [],
        }
    )
)
if "crash" in options.model:
    sys.exit(3)
begun, running, paths = time.monotonic(), set(), []


async def app(scope, receive, send):
    path = scope["path"]
    status, body = 200, {}
    if path == "/health":
        status = 200 if time.monotonic() - begun > 0.3 else 503
    elif path == "/metrics":
        body = (
            f'vllm:num_requests_running{{engine="0"}} {len(running)}.0\nvllm:num_requests_waiting{{engine="0"}} 0.0\n'
        )
    else:
        asked = json.loads((await receive())["body"] or b"{}")
        paths.append([path, sorted(asked)])
        Path(os.environ["HOME"], "asked.json").write_text(json.dumps(paths))
        running.add(threading.get_ident())
        time.sleep(float(asked.get("prompt", "0").removeprefix("slow ")) if "slow" in str(asked.get("prompt")) else 0)  # noqa: ASYNC251
        running.discard(threading.get_ident())
        body = {"usage": {"prompt_tokens": 1, "completion_tokens": asked.get("max_tokens", 1)}, "choices": [{}]}
        if "refuse" in options.model:
            status = 500
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": data})


where, _, what = options.middleware.rpartition(".")
guarded = getattr(importlib.import_module(where), what)(app)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]

        async def receive():
            return {"type": "http.request", "body": content}

        async def send(message):
            if message["type"] == "http.response.start":
                self.send_response(message["status"])
                self.end_headers()
            else:
                self.wfile.write(message["body"])

        asyncio.run(guarded({"type": "http", "path": self.path, "headers": headers}, receive, send))

    do_POST = do_GET

    def log_message(self, *_):
        pass


ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
