"""Quick processes for tests: one Python that has imported everything forks real agents and controllers on demand.

A test that starts thirty of them would otherwise spend its time importing. Protocol: a JSON line in, a JSON line out.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.compute import agent_process, controller_process

ROOT = Path(__file__).parents[2]
MAINS: dict[str, Callable[..., None]] = {"agent": agent_process.run, "controller": controller_process.run}


class Zygote:
    """The test's side."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.compute.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, main: str, *arguments: str, log: Path) -> int:
        """The pid, once the process says that it is ready. Raises ChildProcessError where it ended instead."""
        answer = self._ask({"start": main, "arguments": arguments, "log": str(log)})
        if not answer["ready"]:
            self.wait(answer["pid"])
            raise ChildProcessError(log.read_text())
        return answer["pid"]

    def wait(self, pid: int) -> int:
        """The exit code; negative: the signal."""
        return self._ask({"wait": pid})["code"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def serve() -> None:
    for line in sys.stdin:
        question = json.loads(line)
        if "start" in question:
            answer = _start(question)
        else:
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])}
        print(json.dumps(answer), flush=True)


def _start(question: dict[str, Any]) -> dict[str, Any]:
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(question, tell)
    os.close(tell)
    with os.fdopen(hear) as said:
        return {"pid": pid, "ready": said.readline() == "ready\n"}


def _become(question: dict[str, Any], tell: int) -> None:
    code = 1
    try:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        log = os.open(question["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)

        def ready() -> None:
            os.write(tell, b"ready\n")
            os.close(tell)

        MAINS[question["start"]](*question["arguments"], ready)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
