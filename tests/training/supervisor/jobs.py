"""A job of supervisors on this host, and a control plane that only listens."""

import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

from skerry.training import reporting, spec
from skerry.training.forkserver import processes
from skerry.training.reporting import EventType, TrainingReport
from skerry.training.spec import HangSettings, SupervisorSpec
from tests.training.supervisor.zygote import ROOT, Zygote
from tests.waiting import eventually_sync

EXAMPLE = ROOT / "examples" / "training"


class ControlPlane:
    """Takes reports. `away`: how many of the next it does not answer; `command`: what it asks for."""

    def __init__(self) -> None:
        self.reports: list[TrainingReport] = []
        self.tokens: set[str] = set()
        self.away = 0
        self.command: str | None = None
        plane = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                code, answer = plane.take(self.path, self.headers.get("authorization", ""), body)
                self.send_response(code)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, token: str, body: bytes) -> tuple[int, bytes]:
        assert path == reporting.REPORTS_PATH
        self.tokens.add(token)
        self.reports.append(reporting.decode(body))
        if self.away:
            self.away -= 1
            return 503, b""
        return 200, json.dumps({"command": self.command}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Job:
    """Supervisors, one a node. `work` is everybody's; each node has its own files and log in it."""

    def __init__(self, zygote: Zygote, plane: ControlPlane, work: Path, folder: Path, nodes: int, **fields) -> None:
        self._zygote = zygote
        self.plane = plane
        self.work = work
        self.checkpoints = work / "checkpoints"
        self.checkpoints.mkdir(exist_ok=True)
        rejoin_seconds = fields.pop("rejoin_seconds", 10.0)
        settings = SupervisorSpec(job="trn_1", secret="s" * 64, **fields)
        attempt = f"att_{uuid4().hex}"
        self._seen: set[int] = set()
        self.pids: list[int] = []
        for rank in range(nodes):
            files = work / f"node-{rank}"
            files.mkdir()
            (files / spec.SPEC_FILE).write_text(spec.encode(settings))
            (files / "node-token").write_text("a-token\n")
            env = {
                "PATH": os.environ["PATH"],
                "HOME": str(work),
                "SKERRY_FILES": str(files),
                "SKERRY_REPORT": str(files / "report.json"),
                "SKERRY_ATTEMPT": attempt,
                "SKERRY_NODE_RANK": str(rank),
                "SKERRY_NODE_NAMES": ",".join(f"local-{n + 1}" for n in range(nodes)),
                "SKERRY_NODE_ADDRESSES": ",".join(["127.0.0.1"] * nodes),
                "SKERRY_CHECKPOINT_DIR": str(self.checkpoints),
                "SKERRY_API_URL": plane.url,
            }
            self.pids.append(zygote.start(env, folder, files / "log", rejoin_seconds))

    def log(self, node: int = 0) -> str:
        path = self.work / f"node-{node}" / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, seconds: float = 60.0) -> list[int]:
        """Exit codes of the supervisors."""
        for pid in self.pids:
            try:
                eventually_sync(lambda pid=pid: self._zygote.poll(pid), seconds)
            except AssertionError:
                raise AssertionError("\n".join(self.log(node) for node in range(len(self.pids)))) from None
        codes = [self._zygote.wait(pid) for pid in self.pids]
        print("\n".join(self.log(node) for node in range(len(self.pids))))  # shown where the test fails
        return codes

    def until(self, text: str, node: int = 0) -> None:
        eventually_sync(lambda: text in self.log(node))

    def family(self) -> set[int]:
        """The supervisors and all below them, now."""
        found = descendants(self.pids)
        self._seen |= found
        return found

    def ranks(self) -> dict[int, int]:
        """Live ranks with their pids."""
        names = {pid: name_of(pid) for pid in self.family()}
        return {int(name.split()[1]): pid for pid, name in names.items() if name.startswith("rank ")}

    def left(self) -> set[int]:
        """Whatever was ever seen of it and still lives."""
        self.family()
        return descendants(self._seen)

    def events(self, kind: EventType) -> list[dict]:
        return [event.data for report in self.told() for event in report.events if event.type is kind]

    def told(self) -> list[TrainingReport]:
        """Each report once."""
        return list({report.seq: report for report in self.plane.reports}.values())

    @property
    def last(self) -> TrainingReport:
        return self.told()[-1]

    def losses(self) -> dict[int, float]:
        """As reported; a later value of a step counts."""
        found = [metric for report in self.told() for metric in report.metrics if metric.name == "loss"]
        return {metric.step: metric.value for metric in found if metric.value is not None}

    def end(self) -> None:
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pids: Iterable[int]) -> set[int]:
    """Live processes below these, themselves included."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := processes.stat(int(name))) and found[0] != "Z":
            parents[int(name)] = int(found[1])
    family = {pid for pid in pids if pid in parents}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def name_of(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return file.read().strip()
    return ""


def job_of(zygote: Zygote, plane: ControlPlane, tmp_path: Path):
    @contextmanager
    def run(*command: str, nodes: int = 1, folder: Path = EXAMPLE, **fields) -> Iterator[Job]:
        work = tmp_path / f"job-{uuid4().hex[:6]}"
        work.mkdir()
        job = Job(zygote, plane, work, folder, nodes, command=command, **fields)
        try:
            yield job
        finally:
            job.end()
            job.wait()

    return run


QUICK_HANG = HangSettings(factor=2.0, floor_seconds=4.0, first_step_seconds=60.0)
