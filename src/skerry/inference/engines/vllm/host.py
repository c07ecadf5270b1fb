"""One replica of vLLM: `python -I -m skerry.inference.engines.vllm.host`, the task of a workload.

It becomes an unprivileged user, starts vLLM's own server in vLLM's interpreter, waits until it is healthy, warms it up
(the first request with log-probabilities alone may compile for half a minute), and only then reports its address. On
SIGTERM it waits for the requests that run; it ends when the server does, and the server never outlives it.
"""

# Named here although the standard library would find it itself: nothing can be imported after the drop.
import encodings.idna  # noqa: F401
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from skerry.db.osuser import OsUser
from skerry.inference.engines.address import HERE, Listening, listening
from skerry.inference.engines.vllm import launch
from skerry.inference.engines.vllm.command import MODULE, arguments, environment
from skerry.inference.engines.vllm.config import CONFIG_VARIABLE, KEY_FILE, VllmConfig
from skerry.inference.engines.vllm.metrics import load_of
from skerry.runtime.privileges import drop_to

_POLL_SECONDS: Final = 0.2
_WARM_UP_SECONDS: Final = 600.0
_KILL_SECONDS: Final = 15.0


class CannotStart(Exception):
    """The message is the last line of the log."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the engine agent gives a task."""

    config: VllmConfig
    key: str
    report: Path
    work: Path
    run_as: OsUser | None
    lifeline: int | None
    where: Listening = HERE


def main() -> int:
    server: subprocess.Popen[bytes] | None = None
    try:
        around = surroundings(dict(os.environ))
        source = Path(launch.__file__).read_text()
        if around.run_as is not None:
            drop_to(around.run_as)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        port = free_port(around.where.bind)
        server = start_server(around, source, port)
        if around.lifeline is not None:
            threading.Thread(target=_end_with, args=(around.lifeline, server.pid), daemon=True).start()
        replica = Replica(around.where, port, around.key, around.config)
        wait_healthy(replica, server, around.config.start_seconds, stop)
        if not stop.is_set():
            replica.warm_up()
            write_report(around.report, {"address": replica.address, **_facts(around.config)})
        return watch(replica, server, stop, around.config.grace_seconds)
    except (CannotStart, OSError, ValueError, TypeError, KeyError) as error:
        print(f"skerry: the replica cannot start: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    finally:
        if server is not None:
            end(server)


def surroundings(environ: dict[str, str]) -> Surroundings:
    """Raises KeyError, ValueError, TypeError or OSError for an environment that is not the agent's."""
    run_as, lifeline = environ.get("SKERRY_RUN_AS"), environ.get("SKERRY_LIFELINE_FD")
    return Surroundings(
        config=VllmConfig.of(json.loads(environ[CONFIG_VARIABLE])),
        key=(Path(environ["SKERRY_FILES"]) / KEY_FILE).read_text().strip(),
        report=Path(environ["SKERRY_REPORT"]),
        work=Path(environ["SKERRY_REPORT"]).parent,
        run_as=_user(run_as) if run_as and os.geteuid() == 0 else None,
        lifeline=int(lifeline) if lifeline else None,
        where=listening(environ),
    )


def start_server(around: Surroundings, source: str, port: int) -> "subprocess.Popen[bytes]":
    """vLLM's server, as a child. Raises CannotStart where its interpreter has no vLLM."""
    config = around.config
    env = environment(config, os.environ, around.work)
    check = [config.python, "-I", "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"]
    try:
        found = subprocess.run(check, env=env, cwd=around.work, check=False, stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotStart(
            f"{config.python} cannot be run by the user of replicas: {error}. Set SKERRY_VLLM_PYTHON."
        ) from error
    if found.returncode:
        raise CannotStart(f"{config.python} has no vLLM. Install it there, or set SKERRY_VLLM_PYTHON.")
    command = [config.python, "-I", "-c", source, MODULE, *arguments(config, around.where.bind, port)]
    server = subprocess.Popen(command, env=env, cwd=around.work, stdin=subprocess.PIPE)
    assert server.stdin is not None
    server.stdin.write(around.key.encode() + b"\n")
    server.stdin.close()
    return server


def wait_healthy(replica: "Replica", server: "subprocess.Popen[bytes]", seconds: float, stop: threading.Event) -> None:
    """Raises CannotStart where it ends, or takes too long."""
    deadline = time.monotonic() + seconds
    while not replica.healthy():
        if server.poll() is not None:
            raise CannotStart(f"vLLM ended with exit code {server.returncode}; its own words stand above")
        if time.monotonic() > deadline:
            raise CannotStart(f"vLLM was not ready within {seconds:.0f} s")
        if stop.wait(_POLL_SECONDS):
            return


def watch(replica: "Replica", server: "subprocess.Popen[bytes]", stop: threading.Event, grace: float) -> int:
    """Until we are told to stop and its requests are done, or it ends by itself."""
    while not stop.wait(_POLL_SECONDS):
        if server.poll() is not None:
            print(f"skerry: vLLM ended with exit code {server.returncode}", file=sys.stderr)  # noqa: T201
            return server.returncode or 1
    deadline = time.monotonic() + grace
    while server.poll() is None and time.monotonic() < deadline and replica.busy():
        time.sleep(_POLL_SECONDS)
    return 0


def end(server: "subprocess.Popen[bytes]") -> None:
    """Ask first."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


class Replica:
    """The server, as others see it."""

    def __init__(self, where: Listening, port: int, key: str, config: VllmConfig) -> None:
        self._host, self._port, self._config = where.near, port, config
        self.address = where.address(port)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def healthy(self) -> bool:
        try:
            return self._ask("GET", "/health", None, 5.0)[0] == 200
        except OSError:
            return False

    def busy(self) -> bool:
        """Whether requests are worked on or wait."""
        try:
            status, page = self._ask("GET", "/metrics", None, 5.0)
        except OSError:
            return False
        return status == 200 and load_of(page.decode(errors="replace")).requests > 0

    def warm_up(self) -> None:
        """One request of each kind that compiles something. Raises CannotStart where a completion does not come."""
        text = {"model": self._config.alias, "prompt": "Hello", "max_tokens": 2, "temperature": 0}
        self._complete("/v1/completions", text)
        self._complete("/v1/completions", {**text, "logprobs": 1})
        if self._config.chat:
            messages = [{"role": "user", "content": "Hello"}]
            chat = {"model": self._config.alias, "messages": messages, "max_tokens": 2}
            self._complete("/v1/chat/completions", {**chat, "logprobs": True, "top_logprobs": 1})

    def _complete(self, path: str, body: dict[str, Any]) -> None:
        status, answer = self._ask("POST", path, json.dumps(body), _WARM_UP_SECONDS)
        if status != 200 or not json.loads(answer)["usage"]["completion_tokens"]:
            words = answer[:500].decode(errors="replace")
            raise CannotStart(f"the first request to {path} failed with {status}: {words}")

    def _ask(self, method: str, path: str, body: str | None, seconds: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()


def free_port(host: str) -> int:
    """A port that nobody has at this moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Whole from its first moment."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(json.dumps(report))
    draft.replace(path)


def _facts(config: VllmConfig) -> dict[str, Any]:
    return {"slots": config.slots, "context_length": config.context_length, "engine": "vllm"}


def _user(run_as: str) -> OsUser:
    uid, gid = (int(part) for part in run_as.split(":"))
    return OsUser(str(uid), uid, gid)


def _end_with(lifeline: int, server: int) -> None:
    """The other end is held by whoever wants us: when all of them are gone, so are we, and the server with us."""
    while True:
        select.select([lifeline], [], [])
        try:
            if not os.read(lifeline, 4096):
                os.kill(server, signal.SIGKILL)
                os._exit(0)
        except BlockingIOError:
            continue


if __name__ == "__main__":
    sys.exit(main())
