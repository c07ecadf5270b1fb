"""Supervisors for tests: one Python that has imported torch forks them, and their fork servers, on demand.

Importing torch takes seconds of CPU, and each of these tests needs it up to twice. What differs from a real supervisor
is only that its fork server is forked instead of executed. Protocol: a JSON line in, a JSON line out.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from skerry.training.forkserver import __main__ as forkserver
from skerry.training.forkserver import client, preload
from skerry.training.supervisor import follower, leader, program

ROOT = Path(__file__).parents[3]


class Zygote:
    """The test's side."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.supervisor.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
            text=True,
        )

    def start(self, env: dict[str, str], folder: Path, log: Path, rejoin_seconds: float) -> int:
        """The pid."""
        order = {"env": env, "folder": str(folder), "log": str(log), "rejoin_seconds": rejoin_seconds}
        return self._ask(order)["pid"]

    def wait(self, pid: int) -> int:
        """The exit code; negative: the signal."""
        return self._ask({"wait": pid})["code"]

    def poll(self, pid: int) -> bool:
        return self._ask({"poll": pid})["ended"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class ForkedServer:
    """What `subprocess.Popen` is to the client: here it is forked, with torch in it already."""

    def __init__(self, command: list[str], *, stdin: int, env: dict[str, str], pass_fds: tuple[int, ...]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            signal.set_wakeup_fd(-1)
            (fd,) = pass_fds
            os.closerange(3, fd)
            os.closerange(fd + 1, 4096)
            os.environ.clear()
            os.environ.update(env)
            sys.argv = ["forkserver", str(fd)]
            forkserver.main()
            os._exit(0)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def serve() -> None:
    preload.preload()
    ended: dict[int, int] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            pid = question["wait"]
            if pid not in ended:
                ended[pid] = os.waitpid(pid, 0)[1]
            answer = {"code": os.waitstatus_to_exitcode(ended[pid])}
        elif "poll" in question:
            pid = question["poll"]
            if pid not in ended:
                found, status = os.waitpid(pid, os.WNOHANG)
                ended |= {pid: status} if found else {}
            answer = {"ended": pid in ended}
        else:
            answer = {"pid": _start(question)}
        print(json.dumps(answer), flush=True)


def _start(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
    os.closerange(3, 4096)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["folder"])
    client.subprocess = SimpleNamespace(Popen=ForkedServer, DEVNULL=subprocess.DEVNULL)
    follower.REJOIN_SECONDS = leader.REJOIN_SECONDS = order["rejoin_seconds"]
    code = 70
    try:
        code = program.main()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
