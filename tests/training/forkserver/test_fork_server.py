"""A real fork server, executed as a supervisor does it, without torch: its ranks are like fresh processes."""

import asyncio
import os
import resource
import signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from skerry.training.forkserver.client import ForkServerClient
from skerry.training.forkserver.server import Settings

PROBE = """
import os, random, resource, signal, sys, threading
print(os.environ["RANK"], random.random(), sys.argv, __name__, os.getcwd(), sep="|")
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
print(threading.active_count(), len(os.listdir("/proc/self/fd")) <= 6, os.getsid(0) == os.getpid())
print(resource.getrlimit(resource.RLIMIT_NOFILE), open("/proc/self/comm").read().strip(), sys.path[0])
os.write(int(os.environ["SKERRY_STEP_FD"]), b"s 0 1 -1\\n")
"""


class Ranks:
    """Starts ranks of one fork server and takes what it says and what they write."""

    def __init__(self, kind: str, target: str, folder: Path, *arguments: str) -> None:
        self.said: asyncio.Queue[dict] = asyncio.Queue()
        settings = Settings(kind, target, list(arguments), str(folder), preload=False)
        env = {**os.environ, "PYTHONPATH": str(folder)}
        self.client = ForkServerClient(
            settings, env, self.said.put_nowait, lambda: self.said.put_nowait({"type": "gone"})
        )

    async def run(self, *ranks: int) -> tuple[dict[int, dict], str, bytes]:
        """Their ends by rank, their output, and what went down the step pipe."""
        output, write = os.pipe()
        steps, steps_write = os.pipe()
        for rank in ranks:
            self.client.start_rank(1, rank, {"RANK": str(rank)}, write, steps_write)
        os.close(write)
        os.close(steps_write)
        ends = {}
        while len(ends) < len(ranks):
            message = await self.hear("exited")
            ends[message["rank"]] = message
        with os.fdopen(output, "rb") as text, os.fdopen(steps, "rb") as told:
            return ends, text.read().decode(), told.read()

    async def hear(self, kind: str) -> dict:
        async with asyncio.timeout(30):
            while (message := await self.said.get())["type"] != kind:
                pass
        return message


@asynccontextmanager
async def ranks_of(kind: str, target: str, folder: Path, *arguments: str):
    ranks = Ranks(kind, target, folder, *arguments)
    ranks.client.start()
    try:
        await ranks.hear("ready")
        yield ranks
    finally:
        await ranks.client.close()


async def test_every_rank_is_like_a_fresh_process(tmp_path):
    (tmp_path / "train.py").write_text(PROBE)
    async with ranks_of("script", "train.py", tmp_path, "--lr", "1") as ranks:
        ends, text, told = await ranks.run(0, 1)
    assert {end["exit_code"] for end in ends.values()} == {0}
    lines = text.splitlines()
    first = [line.split("|") for line in lines if "__main__" in line]
    assert {line[0] for line in first} == {"0", "1"}
    assert first[0][1] != first[1][1], "what is drawn at random differs"
    assert {line[2] for line in first} == {"['train.py', '--lr', '1']"}
    assert lines.count("True True") == 2
    assert lines.count("1 True True") == 2
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert {line for line in lines if line.startswith("(")} == {f"{limit} rank {n} {tmp_path}" for n in (0, 1)}
    assert told == b"s 0 1 -1\n" * 2


async def test_a_module_runs_as_with_python_m(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__main__.py").write_text("import sys\nprint(__name__, __package__, sys.argv[1:])\n")
    async with ranks_of("module", "pkg", tmp_path, "x") as ranks:
        ends, text, _ = await ranks.run(0)
    assert (ends[0]["exit_code"], text) == (0, "__main__ pkg ['x']\n")


@pytest.mark.parametrize(
    ("code", "exit_code", "number"),
    [
        ("raise SystemExit", 0, None),
        ("raise SystemExit(300)", 44, None),
        ("raise SystemExit('why')", 1, None),
        ("1 / 0", 1, None),
        ("raise KeyboardInterrupt", 130, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", None, signal.SIGSEGV),
        ("import atexit; atexit.register(print, 'at exit')", 0, None),
        ("import threading, time; threading.Thread(target=lambda: (time.sleep(.1), print('thread'))).start()", 0, None),
        ("this is no python", 1, None),
    ],
)
async def test_it_ends_as_the_interpreter_would(tmp_path, code, exit_code, number):
    (tmp_path / "train.py").write_text(code)
    async with ranks_of("script", "train.py", tmp_path) as ranks:
        ends, text, _ = await ranks.run(0)
    assert (ends[0]["exit_code"], ends[0]["signal"]) == (exit_code, number)
    assert number or "skerry/training" not in text, "a traceback shows the customer's frames only"
    for word in ("at exit", "thread", "why"):
        assert word not in code or word in text


async def test_an_end_that_was_asked_for_is_told_from_one_that_was_not(tmp_path):
    (tmp_path / "train.py").write_text(
        "import os, time\nif os.environ['RANK'] == '1': raise SystemExit(3)\ntime.sleep(600)"
    )
    async with ranks_of("script", "train.py", tmp_path) as ranks:
        output, write = os.pipe()
        for rank in (0, 1):
            ranks.client.start_rank(1, rank, {"RANK": str(rank)}, write, write)
        first = await ranks.hear("exited")
        ranks.client.end(1)
        second = await ranks.hear("exited")
        assert (await ranks.hear("cleared"))["generation"] == 1
        os.close(output)
        os.close(write)
    assert [(one["rank"], one["exit_code"], one["signal"], one["asked"]) for one in (first, second)] == [
        (1, 3, None, False),
        (0, None, signal.SIGKILL, True),
    ]


async def test_ranks_end_with_their_fork_server(tmp_path):
    (tmp_path / "train.py").write_text("import os, time\nos.write(1, b'up')\ntime.sleep(600)")
    async with ranks_of("script", "train.py", tmp_path) as ranks:
        output, write = os.pipe()
        ranks.client.start_rank(1, 0, {"RANK": "0"}, write, write)
        pid = (await ranks.hear("started"))["pid"]
        os.close(write)
        assert await asyncio.to_thread(os.read, output, 2) == b"up"
        os.kill(ranks.client.pid, signal.SIGKILL)
        assert await asyncio.to_thread(os.read, output, 2) == b"", "nobody has the other end any more"
        os.close(output)
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            assert ") Z" in Path(f"/proc/{pid}/stat").read_text()
        await ranks.hear("gone")
