"""A model hub on loopback, which misbehaves when it is told to."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "a" * 40


def lfs(data: bytes) -> dict:
    return {"size": len(data), "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}}


def blob(data: bytes) -> dict:
    return {"size": len(data), "blobId": hashlib.sha1(b"blob %d\x00" % len(data) + data).hexdigest()}


class FakeHub:
    """`repos`: id → name → content. `listed`: what is said of files, where it is not the truth."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.listed: dict[str, list[dict]] = {}
        self.about: dict[str, dict] = {}
        self.status: int | None = None
        self.cut_after: int | None = None
        """Bytes of a file after which the connection is cut, each time."""
        self.pause: threading.Event | None = None
        """Files stop in the middle until it is set."""
        self.ranges = True
        self.padding = 0
        self.redirect_to: str | None = None
        self.asked: list[tuple[str, dict]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                hub.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def put(self, id: str, files: dict[str, bytes], **about: object) -> None:
        self.repos[id] = files
        self.listed[id] = [
            {"rfilename": name, **(lfs(data) if name.endswith((".gguf", ".safetensors", ".bin")) else blob(data))}
            for name, data in files.items()
        ]
        self.about[id] = about

    def answer(self, http: BaseHTTPRequestHandler) -> None:
        path = unquote(http.path.partition("?")[0])
        if self.status is not None:
            return self.send(http, self.status, b"{}")
        if path.startswith("/api/models/"):
            id = "/".join(path.split("/")[3:5])
            if id not in self.repos:
                return self.send(http, 404, b"{}")
            body = {"sha": COMMIT, "siblings": self.listed[id], **self.about[id], "padding": "x" * self.padding}
            return self.send(http, 200, json.dumps(body).encode())
        owner, name, _, commit, file = path.lstrip("/").split("/", 4)
        assert commit == COMMIT
        if self.redirect_to:
            return self.send(http, 302, b"", {"Location": f"{self.redirect_to}{http.path}"})
        data = self.repos[f"{owner}/{name}"].get(file)
        return self.send(http, 404, b"") if data is None else self.send_file(http, data)

    def send_file(self, http: BaseHTTPRequestHandler, data: bytes) -> None:
        wanted = http.headers.get("Range")
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        http.send_response(206 if begin else 200)
        if begin:
            http.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        http.send_header("Content-Length", str(len(data) - begin))
        http.end_headers()
        rest = data[begin:]
        if self.cut_after is not None and len(rest) > self.cut_after:
            http.wfile.write(rest[: self.cut_after])
            http.close_connection = True
            return
        if self.pause is not None:
            half = len(rest) // 2
            http.wfile.write(rest[:half])
            http.wfile.flush()
            self.pause.wait(30)
            rest = rest[half:]
        http.wfile.write(rest)

    def send(self, http: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict | None = None) -> None:
        http.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            http.send_header(name, value)
        http.end_headers()
        http.wfile.write(body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
