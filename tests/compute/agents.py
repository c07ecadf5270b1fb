"""An agent as a real process that can be killed and started again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from skerry.compute.engines.embedded.client import EmbeddedEngine
from skerry.compute.engines.embedded.processes import marked_processes
from tests.compute.agent_process import config

ROOT = Path(__file__).parents[2]


class AgentProcess:
    """One agent with its own folder; it can be killed and started again."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder = folder
        self.options = {"folder": str(folder), **options}
        self.engine = EmbeddedEngine(Path(str(self.options.get("socket", folder / "agent.sock"))))
        self._process: subprocess.Popen[str] | None = None
        self._pass: tuple[int, ...] = ()

    def start(self, *, pass_fds: tuple[int, ...] = ()) -> "AgentProcess":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.compute.agent_process", json.dumps(self.options)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=open(self.folder / "agent.log", "a"),  # noqa: SIM115 - the child closes it
            text=True,
            pass_fds=pass_fds,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "ready\n", (self.folder / "agent.log").read_text()
        return self

    @property
    def mark(self) -> str:
        return config(self.options).mark

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=20)

    def marked(self) -> list[int]:
        return [process.stat.pid for process in marked_processes(self.mark)]

    def close(self) -> None:
        """End it in order; fails the test where a process is left behind."""
        if self._process is not None:
            if self._process.poll() is None:
                self.terminate()
            self._process.stdout.close()
        left = self.marked()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"left behind: {left}"
        for parent in Path("/sys/fs/cgroup").glob(f"**/skerry-{self.mark}"):
            assert not [entry for entry in parent.iterdir() if entry.is_dir()], f"control groups left in {parent}"
            parent.rmdir()
