"""Task wrappers as real processes, with work folders as an engine makes them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from skerry.compute.task import sandbox
from skerry.compute.task.order import ORDER_FILE, TOKEN_FILE, ProjectUser, TaskOrder

ROOT = os.geteuid() == 0
SANDBOX = not sandbox.probe()
FIRST_UID = 1_903_500
"""Numbers that nobody has on the machine of the tests; their users are removed afterwards."""


def user(number: int) -> ProjectUser | None:
    return ProjectUser(f"skerry-pt{number}", FIRST_UID + number) if ROOT else None


@dataclass
class Wrapped:
    """One task: `start` it, `wait` for it; `code` is as Popen gives it."""

    work: Path
    order: TaskOrder
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.work.parent / f"{self.work.name}.log").read_text()

    @property
    def home(self) -> Path:
        return self.work

    def start(self) -> "Wrapped":
        files = self.work / "files"
        files.mkdir(mode=0o700)
        for name, text in ((ORDER_FILE, self.order.to_json()), (TOKEN_FILE, "snt_first")):
            (files / name).write_text(text)
            (files / name).chmod(0o600)
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self.work), "SKERRY_RANK": "0",
            "SKERRY_FILES": str(files), "SKERRY_REPORT": str(self.work / "report.json"), **self.environment,
        }  # fmt: skip
        with (self.work.parent / f"{self.work.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "skerry.compute.task"],
                cwd=self.work, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return self

    def wait(self, seconds: float = 60.0) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def run(self) -> int:
        return self.start().wait()

    def until_logged(self, words: str) -> None:
        deadline = time.monotonic() + 60
        while words not in self.log:
            assert time.monotonic() < deadline and self.process is not None, self.log
            assert self.process.poll() is None or words in self.log, self.log
            time.sleep(0.02)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


Make = Callable[..., Wrapped]


@pytest.fixture(scope="session", autouse=True)
def _users() -> Iterator[None]:
    yield
    if not ROOT:
        return
    for number in range(8):
        subprocess.run(["userdel", f"skerry-pt{number}"], capture_output=True, check=False)
        subprocess.run(["groupdel", f"skerry-pt{number}"], capture_output=True, check=False)


@pytest.fixture
def node() -> Iterator[Path]:
    """A folder that stands for a node's: for all to pass through."""
    folder = Path(tempfile.mkdtemp(prefix="sk-task-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make(node: Path) -> Iterator[Make]:
    made: list[Wrapped] = []

    def new(*command: str, number: int = 1, environment: dict[str, str] | None = None, **order: object) -> Wrapped:
        work = node / f"att_{len(made)}-0"
        work.mkdir(mode=0o700)
        what = TaskOrder(command, **{"api_url": "http://127.0.0.1:9", "user": user(number), **order})  # type: ignore[arg-type]
        made.append(Wrapped(work, what, environment or {}))
        return made[-1]

    yield new
    for task in made:
        task.close()
