"""The real thing for tests: every process of a cloud, in a home of its own, on a port of its own."""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import psycopg

from skerry.runtime.settings import Settings
from skerry.server.status import launcher_pid, read_status
from tests.ports import free_port
from tests.waiting import eventually_sync

MODEL = "smollm2-135m-instruct"
"""The default model, on the CPU: about 40 tokens a second, so ask it for few."""
ROLES = ("launcher", "database", "agent", "server", "controller", "gateway", "shipper", "replica")
START_SECONDS = 150.0
RECOVERY_SECONDS = 60.0
GONE_SECONDS = 20.0


class Cloud:
    """`start` returns when it is ready; `close` ends it and fails if anything of it is left."""

    def __init__(self, **settings: str) -> None:
        """`settings` are environment variables without their `SKERRY_`."""
        self.home = Path(tempfile.mkdtemp(prefix="skc-", dir="/tmp"))
        self.home.chmod(0o755)  # so that the state lies below it, also when root starts it
        self.port = free_port()
        self.url = f"{'https' if 'tls_cert' in settings else 'http'}://127.0.0.1:{self.port}"
        ours = {"SKERRY_HOME": str(self.home), **{f"SKERRY_{name.upper()}": text for name, text in settings.items()}}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("SKERRY_")} | ours
        self.settings = Settings.from_env(self.environment)
        self.operator_key = self.project_key = ""
        # Tests with TLS use a certificate that vouches for itself.
        self.trust = ssl.create_default_context(cafile=settings["tls_cert"]) if "tls_cert" in settings else False
        self._client = httpx.Client(base_url=self.url, timeout=30.0, trust_env=False, verify=self.trust)

    # --- life
    def start(self, *options: str) -> "Cloud":
        done = self.server("up", "--port", str(self.port), "--detach", *options, timeout=START_SECONDS)
        assert done.returncode == 0, f"{done.stderr}\n{self.words()}"
        credentials = tomllib.loads((self.home / "credentials.toml").read_text())
        assert credentials["url"] == self.url
        self.operator_key, self.project_key = credentials["operator_key"], credentials["project_key"]
        return self

    def close(self) -> None:
        try:
            self.server("down", timeout=90.0)
            self.expect_nothing_left()
        finally:
            self._end_what_is_left()
            self._client.close()
            shutil.rmtree(self.home, ignore_errors=True)

    def expect_nothing_left(self, seconds: float = GONE_SECONDS) -> None:
        """No process of this home is alive."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"left behind: {left}\n{self.words()}"

    def wait_ready(self, seconds: float = RECOVERY_SECONDS) -> None:
        """`/readyz` says 200, and all roles have a living process."""
        deadline = time.monotonic() + seconds
        while missing := self._missing():
            assert time.monotonic() < deadline, f"not ready within {seconds} s: {missing}\n{self.words()}"
            time.sleep(0.05)

    def _missing(self) -> str:
        """Why it is not whole; empty where it is."""
        status = read_status(self.settings)
        if status is None:
            return "no launcher"
        if not status["ready"]:
            return f"not ready: {status.get('reasons')}"
        return ", ".join(sorted(set(ROLES) - self._living(status["processes"]).keys()))

    # --- processes
    def pid(self, role: str) -> int | None:
        """Of a living process, as `skerry status` tells it."""
        status = read_status(self.settings)
        return self._living(status["processes"]).get(role) if status else None

    def _living(self, rows: list[dict[str, Any]]) -> dict[str, int]:
        """By role. What has died, or is another's process by now, is left out."""
        return {row["role"]: row["pid"] for row in rows if row["pid"] and self._is_ours(row["pid"])}

    def kill(self, role: str, seconds: float = 30.0) -> int:
        """SIGKILL to a process of this role, as soon as there is one; its id."""
        deadline = time.monotonic() + seconds
        while (pid := self.pid(role)) is None:
            assert time.monotonic() < deadline, f"no {role} within {seconds} s\n{self.words()}"
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        return pid

    def processes(self) -> dict[int, str]:
        """All living processes that have to do with this home: by environment, command line or working folder.

        The database is found by its data folder, the engine's tasks by their work folder.
        """
        return {
            int(folder.name): _bytes(folder / "cmdline").replace(b"\0", b" ").decode(errors="replace")
            for folder in Path("/proc").glob("[0-9]*")
            if int(folder.name) != os.getpid() and self._is_ours(int(folder.name))
        }

    def _is_ours(self, pid: int) -> bool:
        folder, home = Path(f"/proc/{pid}"), os.fsencode(self.home)
        if home in _bytes(folder / "environ") or home in _bytes(folder / "cmdline"):
            return True
        try:
            return (folder / "cwd").readlink().is_relative_to(self.home)
        except OSError:
            return False

    def _end_what_is_left(self) -> None:
        for pid in [launcher_pid(self.settings), *self.processes()]:
            if pid is not None and self._is_ours(pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    # --- from outside
    def server(self, *arguments: str, timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """`python -m skerry.server …`: what `skerry up` and `skerry down` start."""
        return self._run("skerry.server", arguments, timeout)

    def cli(self, *arguments: str, timeout: float = 60.0, **more: str) -> "subprocess.CompletedProcess[str]":
        return self._run("skerry.cli", arguments, timeout, more)

    def _run(
        self, module: str, arguments: tuple[str, ...], timeout: float, more: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        # To a file, not a pipe: a cloud that stays up in the background would keep the pipe open.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                [sys.executable, "-m", module, *arguments],
                env={**self.environment, **(more or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=timeout,
                check=False,
            )
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())

    def get(self, path: str, key: str | None = None, **query: str) -> httpx.Response:
        return self._client.get(path, params=query, headers=self.bearer(key))

    def post(self, path: str, body: Mapping[str, Any], key: str | None = None) -> httpx.Response:
        return self._client.post(path, json=body, headers=self.bearer(key))

    def delete(self, path: str, key: str | None = None) -> httpx.Response:
        return self._client.delete(path, headers=self.bearer(key))

    def bearer(self, key: str | None = None) -> dict[str, str]:
        """The operator's key, unless another one is given."""
        return {"authorization": f"Bearer {key or self.operator_key}"}

    def sdk(self, key: str | None = None, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(
            **self._openai_options(key, options), http_client=httpx.Client(verify=False, trust_env=False)
        )

    def async_sdk(self, key: str | None = None, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            **self._openai_options(key, options), http_client=httpx.AsyncClient(verify=False, trust_env=False)
        )

    def _openai_options(self, key: str | None, options: dict[str, Any]) -> dict[str, Any]:
        fixed = {"base_url": f"{self.url}/v1", "api_key": key or self.project_key, "max_retries": 0, "timeout": 60.0}
        return {**fixed, **options}

    # --- things in it
    def new_key(self, name: str, *scopes: str, **terms: Any) -> dict[str, Any]:
        """A key of the default project: `{id, key, …}`; returns when the gateway knows it."""
        answer = self.post("/api/v1/api-keys", {"name": name, "scopes": scopes or ["inference", "read"], **terms})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        eventually_sync(lambda: self.post("/v1/chat/completions", {}, made["key"]).status_code != 401, 30)
        return made

    def add_upstream(self, name: str, upstream: str, **more: Any) -> None:
        """A model at an upstream; returns when it can be called."""
        body = {"name": name, "engine": "external", "source": {"upstream": upstream}, "context_length": 32768, **more}
        answer = self.post("/api/v1/models", body)
        assert answer.status_code == 201, answer.text

        def is_listed() -> bool:
            listed = self.get("/v1/models", self.project_key).json()["data"]
            return any(model["id"] == name for model in listed)

        eventually_sync(is_listed)

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows straight from the database, as its owner sees them."""
        url = f"postgresql://postgres@/skerry?host={self.settings.state / 'pg'}"
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(statement, values).fetchall()  # type: ignore[call-overload]

    # --- what it wrote
    def logs(self) -> dict[str, str]:
        """All log files: of the roles, of the launcher, of the tasks."""
        files = [self.home / "launcher.log", *(path for path in self.settings.logs.rglob("*") if path.is_file())]
        return {str(path): path.read_text(errors="replace") for path in files if path.exists()}

    def words(self, lines: int = 8) -> str:
        """The ends of the logs, to be read beside a failure."""
        return "\n".join(
            f"--- {path}\n" + "\n".join(text.splitlines()[-lines:]) for path, text in self.logs().items() if text
        )


def eventually_equal(read: Callable[[], object], wanted: object, seconds: float) -> None:
    """Wait until `read()` gives `wanted`; the failure shows what it gave at last."""
    deadline = time.monotonic() + seconds
    while (value := read()) != wanted:
        assert time.monotonic() < deadline, f"after {seconds} s: {value!r} instead of {wanted!r}"
        time.sleep(0.05)


def _bytes(path: Path) -> bytes:
    """Empty where the process has gone, or is a zombie."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
