"""Agents as real processes, and a proof afterwards that nothing is left."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from skerry.compute.engines.base import Engine
from tests.compute.agents import AgentProcess
from tests.compute.zygote import Zygote


@pytest.fixture(scope="session")
def open_tmp() -> Iterator[Path]:
    """A folder with a short path that any user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="sk-agent-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def make_agent(zygote: Zygote, open_tmp: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Agents with folders of their own, ended after the test."""
    made: list[AgentProcess] = []

    def make(**options: object) -> AgentProcess:
        folder = Path(tempfile.mkdtemp(dir=open_tmp))
        folder.chmod(0o755)
        (folder / "work").mkdir(mode=0o711)
        made.append(AgentProcess(zygote, folder, **options))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


@pytest.fixture(scope="session", params=["cgroups", "no-cgroups"])
def shared_agent(request: pytest.FixtureRequest, zygote: Zygote, open_tmp: Path) -> Iterator[AgentProcess]:
    """One agent for all tests that do not hurt it; with control groups (where there are any) and without."""
    folder = open_tmp / request.param
    folder.mkdir()
    agent = AgentProcess(
        zygote,
        folder,
        log_bytes=4096,
        log_parts=2,
        nodes=4,
        cgroups=request.param == "cgroups",
        plain_loop=request.param != "cgroups",
    ).start()
    yield agent
    agent.close()


@pytest.fixture
async def engine(shared_agent: AgentProcess) -> AsyncIterator[Engine]:
    yield shared_agent.engine
    for attempt in await shared_agent.engine.known():
        await shared_agent.engine.cancel(attempt, 0)
