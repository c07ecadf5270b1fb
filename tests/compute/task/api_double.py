"""The node API as a wrapper sees it, in memory: it breaks off and goes away when told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PREFIX = "/api/v1/node/"


class ApiDouble(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.source = b""
        self.artifacts: dict[str, bytes] = {}
        self.drafts: dict[str, bytes] = {}
        self.tokens = ["snt_first"]
        self.break_after: list[int] = []
        """The next answers to `source` end after so many bytes each."""
        self.away = 0
        """So many calls are answered 503."""
        self.calls: list[tuple[str, str, str]] = []
        """Method, target, the range or the body's length."""
        self.heads: list[dict[str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: ApiDouble
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with self.server.lock:
            self._answer("GET")

    def do_POST(self) -> None:
        with self.server.lock:
            self._answer("POST")

    def do_PUT(self) -> None:
        with self.server.lock:
            self._answer("PUT")

    def do_DELETE(self) -> None:
        with self.server.lock:
            self._answer("DELETE")

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, method: str) -> None:
        api, url = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        api.calls.append((method, url.path.removeprefix(PREFIX), self.headers.get("range") or str(len(body))))
        api.heads.append({name.lower(): value for name, value in self.headers.items()})
        if self.headers.get("authorization", "").removeprefix("Bearer ") not in api.tokens:
            return self._json(401, {"code": "bad_node_token", "detail": "no"})
        if api.away > 0:
            api.away -= 1
            return self._json(503, {"code": "unavailable", "detail": "away"})
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        name = url.path.removeprefix(PREFIX)
        if (method, name) == ("POST", "token"):
            api.tokens.append(f"snt_{len(api.tokens)}")
            return self._json(200, {"token": api.tokens[-1], "expires_in": 3600})
        if (method, name) == ("GET", "source"):
            return self._bytes(api.source, api.break_after.pop(0) if api.break_after else None)
        if method == "GET" and name == "artifacts":
            found = [{"path": path, "bytes": len(data)} for path, data in sorted(api.artifacts.items())]
            return self._json(200, {"data": found})
        if name.startswith("artifacts/"):
            return self._artifact(method, name.removeprefix("artifacts/"), body, query)
        return self._json(200, {"echo": body.decode(), "path": name})

    def _artifact(self, method: str, path: str, body: bytes, query: dict[str, str]) -> None:
        api = self.server
        if method == "PUT":
            offset = int(query.get("offset", 0))
            before = api.drafts.get(path, b"") if offset else b""
            if len(before) != offset:
                return self._json(409, {"code": "wrong_offset", "detail": ""})
            api.drafts[path] = before + body
            if query.get("last", "1") == "1":
                api.artifacts[path] = api.drafts.pop(path)
            return self._json(200, {"bytes": offset + len(body)})
        if method == "DELETE":
            api.artifacts = {n: d for n, d in api.artifacts.items() if n != path and not n.startswith(f"{path}/")}
            return self._json(200, {})
        return self._bytes(api.artifacts[path], None)

    def _bytes(self, data: bytes, limit: int | None) -> None:
        start = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("content-length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:] if limit is None else data[start : start + limit])
        if limit is not None:
            self.close_connection = True

    def _json(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[ApiDouble]:
    api = ApiDouble()
    thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.shutdown()
        api.server_close()
        thread.join()
