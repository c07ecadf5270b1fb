"""A small server that answers as a replica does: `python fake_replica.py`, the task of a service.

It listens where its node is reached, reports that, and on SIGTERM finishes what it has before it ends.
"""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY = (Path(os.environ["SKERRY_FILES"]) / "key").read_text()
WORKING = 0
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(f"llamacpp:requests_processing {WORKING}\n".encode())

    def do_POST(self) -> None:
        global WORKING
        self.rfile.read(int(self.headers["content-length"]))
        if self.headers["authorization"] != f"Bearer {KEY}":
            self.send_error(401)
            return
        with LOCK:
            WORKING += 1
        time.sleep(0.05)
        body = {"node": os.environ["SKERRY_NODE_NAME"], "usage": {"completion_tokens": 1}}
        self.answer(json.dumps(body).encode())
        with LOCK:
            WORKING -= 1

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
here = os.environ["SKERRY_NODE_ADDRESSES"].split(",")[int(os.environ["SKERRY_NODE_RANK"])]
server = ThreadingHTTPServer((here, 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
report = {"address": f"http://{here}:{server.server_address[1]}", "slots": 4}
draft = Path(os.environ["SKERRY_REPORT"] + ".draft")
draft.write_text(json.dumps(report))
draft.replace(os.environ["SKERRY_REPORT"])
stop.wait()
while WORKING:
    time.sleep(0.01)
