"""A cloud of its own for a benchmark: fresh home, free port, gone afterwards."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cloud:
    home: Path
    url: str
    port: int
    operator_key: str
    project_key: str

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """One call of the control API as JSON; raises urllib's HTTPError."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode() if body is not None else None,
            {"authorization": f"Bearer {key or self.operator_key}", "content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def pids(self) -> dict[str, int]:
        done = skerry(self.home, "status", "--json")
        return {row["role"]: row["pid"] for row in json.loads(done.stdout)["processes"] if row["pid"]}


def skerry(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "skerry.server", *arguments],
        env={**os.environ, "SKERRY_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def new_home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sk-"))
    # As root, the database's own user must get through.
    folder.chmod(0o755)
    try:
        yield folder / "home"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(home: Path, port: int | None = None) -> Iterator[Cloud]:
    """Up and ready. Raises RuntimeError with what `up` said where it is not."""
    port = port or free_port()
    done = skerry(home, "up", "--detach", "--port", str(port))
    if done.returncode:
        raise RuntimeError(done.stderr)
    try:
        keys = tomllib.loads((home / "credentials.toml").read_text())
        yield Cloud(home, f"http://127.0.0.1:{port}", port, keys["operator_key"], keys["project_key"])
    finally:
        skerry(home, "down")
