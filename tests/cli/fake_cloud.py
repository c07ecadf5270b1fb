"""A small Skerry on loopback: what the command line needs of one, with what it was asked."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROJECT_KEY, OPERATOR_KEY = "sk-project", "sk-operator"
MONEY = {"amount": "0.0000123", "currency": "EUR"}
ME = {"key_id": "key_1", "key_name": "demo", "project": "default", "project_id": "proj_1", "organization": "demo"}
MODEL = {
    "id": "mod_1",
    "name": "tiny",
    "engine": "llamacpp",
    "status": "ready",
    "source": {"kind": "path", "path": "/models/tiny"},
    "context_length": 8192,
}
KEY = {
    "id": "key_01jd0000000000000000000001",
    "name": "ci",
    "last4": "9xyz",
    "scopes": ["inference"],
    "status": "active",
    "limits": {"budget": {"amount": "10", "currency": "EUR"}},
}


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    key: str
    body: Any
    headers: dict[str, str]


@dataclass
class FakeCloud:
    """`answers` by "METHOD /path": (status, body), or a function of what was asked. `chat` gives an answer's words.

    Bodies are JSON, or bytes as they are, in both directions.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    chat: Callable[[Asked], list[str]] = lambda asked: ["Hello", " world"]
    slow: threading.Event | None = None
    """Set: after the first word the stream goes on for ever, until the client leaves."""
    left: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def of(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    def said(self, asked: Asked) -> tuple[int, Any] | None:
        found = self.answers.get(f"{asked.method} {asked.path}")
        return found(asked) if callable(found) else found


def problem(status: int, code: str, detail: str, **more: Any) -> tuple[int, Any]:
    return status, {"status": status, "code": code, "title": code, "detail": detail, **more}


def listed(*items: dict[str, Any], cursor: str | None = None) -> tuple[int, Any]:
    return 200, {"data": list(items), "has_more": cursor is not None, "next_cursor": cursor}


def started(cloud: FakeCloud) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("content-length") or 0)
            asked = Asked(
                self.command,
                parts.path,
                {name: values[0] for name, values in parse_qs(parts.query).items()},
                (self.headers.get("authorization") or "").removeprefix("Bearer "),
                self.body(self.rfile.read(length)) if length else None,
                {name.lower(): value for name, value in self.headers.items()},
            )
            cloud.asked.append(asked)
            said = cloud.said(asked)
            if said is None and asked.path == "/v1/chat/completions":
                self.stream(asked)
            else:
                self.reply(*(said or problem(404, "not_found", f"There is no {asked.path} here.")))

        do_GET = do_POST = do_PATCH = do_DELETE = do

        def body(self, content: bytes) -> Any:
            return json.loads(content) if self.headers.get_content_type() == "application/json" else content

        def reply(self, status: int, body: Any) -> None:
            content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def stream(self, asked: Asked) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("x-request-id", "req_1")
            self.end_headers()
            try:
                for word in cloud.chat(asked):
                    self.event({"model": "tiny", "choices": [{"index": 0, "delta": {"content": word}}]})
                while cloud.slow is not None and cloud.slow.is_set():
                    time.sleep(0.02)
                    self.event({"model": "tiny", "choices": [{"index": 0, "delta": {"content": "."}}]})
                self.event({"model": "tiny", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                usage = {"prompt_tokens": 12, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
                skerry = {"cost": "0.0000123", "currency": "EUR", "energy_mwh": 5}
                self.event({"model": "tiny", "choices": [], "usage": usage, "skerry": skerry})
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                cloud.left.set()

        def event(self, chunk: dict[str, Any]) -> None:
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            self.wfile.flush()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server
