"""One replica: `python -I -m skerry.inference.engines.llamacpp.host`, the task of a workload.

It imports everything, opens the weights, becomes an unprivileged user, serves them with llama.cpp's own server on a
loopback port, completes something with it, and only then reports its address. It ends on SIGTERM, once its requests
are done, and at once when its lifeline is cut.
"""

# Named here although the standard library would find it itself: nothing can be imported after the drop.
import ctypes
import encodings.idna  # noqa: F401
import http.client
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import xllamacpp

from skerry.db.osuser import OsUser
from skerry.inference.engines.address import HERE, Listening, listening
from skerry.inference.engines.llamacpp.config import CONFIG_VARIABLE, KEY_FILE, HostConfig
from skerry.inference.engines.llamacpp.machine import Machine, this_machine
from skerry.runtime.privileges import drop_to

_BATCH: Final = 128
"""Tokens of a prompt between two looks at the other requests: a long prompt then holds nobody up for more than a few
seconds on a slow machine, and a cancelled one stops as soon. Larger batches were no faster on CPUs."""
_COPY: Final = 64 * 1024**2
_PR_SET_DUMPABLE: Final = 4
_WARM_UP_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.1
_ERRORS_ONLY: Final = 1
"""Louder, llama.cpp's log quotes requests."""


class CannotStart(Exception):
    """The message is the last line of the log."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the engine agent gives a task."""

    config: HostConfig
    key: str
    report: Path
    run_as: OsUser | None
    lifeline: int | None
    where: Listening = HERE


Prepare = Callable[[HostConfig], Callable[[], str]]
"""Opens what the model needs, as whom we are started; what it returns is called as whom we become, and gives a path of
a GGUF file that can then be read."""


def main(prepare: Prepare | None = None) -> int:
    try:
        around = surroundings(dict(os.environ))
        model_path = (prepare or gguf_file)(around.config)
        if around.run_as is not None:
            drop_to(around.run_as)
        _close_to_others()
        if around.lifeline is not None:
            threading.Thread(target=_end_with, args=(around.lifeline,), daemon=True).start()
        around = replace(around, config=fitted(around.config, this_machine()))
        server = start_server(around.config, model_path(), around.key, around.where.bind)
        return serve(server, around)
    except (CannotStart, OSError, ValueError, TypeError, KeyError) as error:
        print(f"skerry: the replica cannot start: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1


def surroundings(environ: dict[str, str]) -> Surroundings:
    """Raises KeyError, ValueError, TypeError or OSError for an environment that is not the agent's."""
    run_as = environ.get("SKERRY_RUN_AS")
    lifeline = environ.get("SKERRY_LIFELINE_FD")
    return Surroundings(
        config=HostConfig.of(json.loads(environ[CONFIG_VARIABLE])),
        key=(Path(environ["SKERRY_FILES"]) / KEY_FILE).read_text().strip(),
        report=Path(environ["SKERRY_REPORT"]),
        run_as=_user(run_as) if run_as and os.geteuid() == 0 else None,
        lifeline=int(lifeline) if lifeline else None,
        where=listening(environ),
    )


def fitted(config: HostConfig, machine: Machine) -> HostConfig:
    """With the threads and as many of its slots as this machine has room for. Raises CannotStart for not even one."""
    slots = config.slots
    if machine.memory_bytes is not None and config.slot_bytes:
        slots = min(slots, (machine.memory_bytes - config.fixed_bytes) // config.slot_bytes)
    if slots < 1:
        needed = config.fixed_bytes + config.slot_bytes
        raise CannotStart(
            f"it needs {needed >> 20} MiB of memory; this machine grants {(machine.memory_bytes or 0) >> 20} MiB"
        )
    return replace(config, slots=slots, threads=config.threads or machine.threads)


def gguf_file(config: HostConfig) -> Callable[[], str]:
    """The weights as they lie on the disk."""
    weights = open_weights(config.model)
    return lambda: loadable_path(config.model, weights)


def open_weights(model: str) -> int:
    """A descriptor of the file, opened with the rights we still have."""
    try:
        return os.open(model, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CannotStart(f"{model}: {error.strerror}") from error


def loadable_path(model: str, descriptor: int) -> str:
    """A path under which llama.cpp can open the weights now that the rights are few.

    The file may lie in a folder that is closed to us: then it is opened again through its descriptor. Where its own
    mode is closed too, it is copied to memory.
    """
    for path in (model, f"/proc/self/fd/{descriptor}"):
        if _readable(path):
            return path
    copy = os.memfd_create("weights", os.MFD_CLOEXEC)
    while os.sendfile(copy, descriptor, None, _COPY):
        pass
    os.close(descriptor)
    return f"/proc/self/fd/{copy}"


def start_server(config: HostConfig, path: str, key: str, host: str = "127.0.0.1") -> Any:
    """llama.cpp's server, with the model loaded. Raises CannotStart; llama.cpp has said why in the log."""
    p = xllamacpp.CommonParams()
    p.model.path = path
    p.model_alias = {config.alias}
    p.api_keys = [key]
    p.hostnames = [host]
    p.port = 0
    p.n_parallel = config.slots
    # Each slot has a context of its own. A pool shared by all (kv_unified) runs over when requests grow together, and
    # llama.cpp then fails every one of them.
    p.kv_unified = False
    p.n_ctx = config.context_length * config.slots
    p.fit_params = False
    p.ctx_shift = False
    p.embedding = config.embedding
    # What becomes one vector is worked on in one go, so a batch has to hold the longest text.
    p.n_batch = p.n_ubatch = config.context_length if config.embedding else _BATCH
    p.cont_batching = True
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = config.threads or 1
    # Nothing of one request is reused for another unless the gateway says so (README: prefix caches).
    p.cache_prompt = False
    p.cache_ram_mib = 0
    p.cache_idle_slots = False
    p.endpoint_metrics = True
    p.endpoint_slots = p.endpoint_props = p.ui = False
    p.cors_origins = ""
    p.cors_credentials = False
    p.use_jinja = True
    # What is completed before the report warms it up; an empty run besides costs half a second of a cold start.
    p.warmup = False
    p.verbosity = _ERRORS_ONLY
    try:
        return xllamacpp.Server(p)
    except RuntimeError as error:
        raise CannotStart(f"llama.cpp could not load {config.model}") from error


def serve(server: Any, around: Surroundings) -> int:
    """Report once it has completed something, then wait for the end."""
    stop = threading.Event()
    # After the server was made: llama.cpp sets handlers of its own when it starts.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    port = urlsplit(server.listening_address).port
    assert port is not None, "it listens on a port"
    address = around.where.address(port)
    replica = Replica(Listening(around.where.bind, around.where.near).address(port), around.key)
    if around.config.embedding:
        replica.embed()
    else:
        replica.complete()
    write_report(
        around.report,
        {
            "address": address,
            "slots": around.config.slots,
            "context_length": around.config.context_length,
            "engine": f"xllamacpp {xllamacpp.__version__}",
        },
    )
    stop.wait()
    drain(replica, around.config.grace_seconds)
    return 0


class Replica:
    """Our own server, as others see it."""

    def __init__(self, address: str, key: str) -> None:
        self._netloc = urlsplit(address).netloc
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def complete(self) -> None:
        """Raises CannotStart where a real completion does not come."""
        body = json.dumps({"prompt": "Hello", "max_tokens": 2, "temperature": 0})
        status, answer = self._ask("POST", "/v1/completions", body, _WARM_UP_SECONDS)
        if status != 200 or not json.loads(answer)["usage"]["completion_tokens"]:
            raise CannotStart(f"the first completion failed with {status}: {answer[:500].decode(errors='replace')}")

    def embed(self) -> None:
        """Raises CannotStart where a real vector does not come."""
        status, answer = self._ask("POST", "/v1/embeddings", json.dumps({"input": "Hello"}), _WARM_UP_SECONDS)
        if status != 200 or not any(json.loads(answer)["data"][0]["embedding"]):
            raise CannotStart(f"the first vector failed with {status}: {answer[:500].decode(errors='replace')}")

    def busy(self) -> bool:
        """Whether requests are worked on or wait."""
        status, answer = self._ask("GET", "/metrics", None, 5.0)
        if status != 200:
            return False
        lines = answer.decode(errors="replace").splitlines()
        counts = [line.split()[-1] for line in lines if line.startswith(_LOADS)]
        return any(float(count) > 0 for count in counts)

    def _ask(self, method: str, path: str, body: str | None, seconds: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._netloc, timeout=seconds)
        try:
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise CannotStart(f"its own server does not answer: {error}") from error
        finally:
            connection.close()


_LOADS: Final = ("llamacpp:requests_processing ", "llamacpp:requests_deferred ")


def drain(replica: Replica, seconds: float) -> None:
    """Until no request is left, at most so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not replica.busy():
                return
        except (CannotStart, OSError):
            return
        time.sleep(_POLL_SECONDS)


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Whole from its first moment, and with that moment: it ends the part of a cold start that is the engine's."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(json.dumps({**report, "reported_at": time.time()}))
    draft.replace(path)


def _readable(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _user(run_as: str) -> OsUser:
    uid, gid = (int(part) for part in run_as.split(":"))
    return OsUser(str(uid), uid, gid)


def _close_to_others() -> None:
    """Processes of the same user, such as other tasks, must read neither our memory nor the key in it."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _end_with(lifeline: int) -> None:
    """The other end is held by whoever wants us: when all of them are gone, so are we."""
    while True:
        select.select([lifeline], [], [])
        try:
            if not os.read(lifeline, 4096):
                leave(0)
        except BlockingIOError:
            continue


def leave(code: int) -> NoReturn:
    """Not sys.exit: the destructor of a server that failed late waits for connections that are merely kept alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
