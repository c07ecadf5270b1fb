"""An agent as a real process that can be killed and started again."""

import contextlib
import json
import os
import signal
from pathlib import Path

from skerry.compute.engines.embedded.client import EmbeddedEngine
from skerry.compute.engines.embedded.processes import marked_processes
from skerry.fleet.cgroups import cgroup_folders
from tests.compute.agent_process import config
from tests.compute.zygote import Zygote


class AgentProcess:
    """One agent with its own folder."""

    def __init__(self, zygote: Zygote, folder: Path, **options: object) -> None:
        self.folder = folder
        self.options = {"folder": str(folder), **options}
        self.engine = EmbeddedEngine(Path(str(self.options.get("socket", folder / "agent.sock"))))
        self._zygote = zygote
        self._pid: int | None = None

    def start(self) -> "AgentProcess":
        self._pid = self._zygote.start("agent", json.dumps(self.options), log=self.folder / "agent.log")
        return self

    @property
    def mark(self) -> str:
        return config(self.options).mark

    def kill(self) -> None:
        assert self._end(signal.SIGKILL) == -signal.SIGKILL

    def terminate(self) -> int:
        return self._end(signal.SIGTERM)

    def marked(self) -> list[int]:
        return [process.stat.pid for process in marked_processes(self.mark)]

    def close(self) -> None:
        """End it in order; fails the test where a process or a control group is left behind."""
        if self._pid is not None:
            self.terminate()
        left = self.marked()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"left behind: {left}"
        groups = [base / f"skerry-{self.mark}" for folder in cgroup_folders().values() for base in folder]
        assert not [group for group in groups if group.exists()], "control groups are left behind"

    def _end(self, number: int) -> int:
        assert self._pid is not None
        os.kill(self._pid, number)
        code = self._zygote.wait(self._pid)
        self._pid = None
        return code
