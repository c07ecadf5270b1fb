"""Machine code is compiled once for all processes, and whatever becomes of the cache, the code runs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NOBODY = 65_534
Misses = Callable[..., int]
SOURCE = """
from skerry.capacity.jit import compiled

@compiled
def twice(number):
    return number + number
"""
PARENT = """
import json, os, sys
import skerry.capacity.jit
from skerry.db.osuser import OsUser
from skerry.runtime.privileges import drop_to

def call(folder, user, environment):
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    import module
    if user:
        drop_to(OsUser("nobody", user, user))
    assert module.twice(21) == 42
    print(sum(module.twice.stats.cache_misses.values()), flush=True)

for line in sys.stdin:
    if (child := os.fork()) == 0:
        try:
            call(*json.loads(line))
        except BaseException as error:
            print(repr(error), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
"""Has loaded the compiler once; each call is made by a process of its own, which has compiled nothing."""


@pytest.fixture(scope="module")
def misses() -> Iterator[Misses]:
    """Call the function in a process of its own: how often had it to be compiled?"""
    command = [sys.executable, "-B", "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        asked, told = parent.stdin, parent.stdout
        assert asked is not None
        assert told is not None

        def call(folder: Path, user: int = 0, **environment: str) -> int:
            given = {"PATH": os.environ["PATH"], "HOME": "/proc/none", **environment}
            asked.write(json.dumps([str(folder), user, given]) + "\n")
            asked.flush()
            return int(told.readline())

        yield call
        asked.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "package"
    inside.mkdir(mode=0o700)
    (inside / "module.py").write_text(SOURCE)
    return inside


def test_a_second_process_compiles_nothing(folder: Path, misses: Misses) -> None:
    assert misses(folder) == 1
    assert misses(folder) == 0


def test_a_closed_folder_has_its_cache_in_the_state(folder: Path, tmp_path: Path, misses: Misses) -> None:
    """Nor is there a home to write to."""
    close(folder)
    (tmp_path / "state").mkdir()
    assert misses(folder, SKERRY_STATE=str(tmp_path / "state")) == 1
    assert misses(folder, SKERRY_STATE=str(tmp_path / "state")) == 0
    assert list((tmp_path / "state" / "cache").rglob("*.nbi"))


def test_without_any_folder_it_is_compiled_and_runs(folder: Path, misses: Misses) -> None:
    close(folder)
    assert misses(folder, SKERRY_HOME="/proc/none") == 1


def test_a_damaged_cache_is_passed_over(folder: Path, misses: Misses) -> None:
    assert misses(folder) == 1
    for file in (folder / "__pycache__").glob("*.nbi"):
        file.write_bytes(b"no pickle")
    assert misses(folder) == 1
    for file in (folder / "__pycache__").glob("*.nbc"):
        file.write_bytes(file.read_bytes()[:100])
    assert misses(folder) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give root up")
def test_who_gave_up_root_keeps_its_code_in_the_state(folder: Path, misses: Misses) -> None:
    """The folder of the source is closed to whom it becomes; a folder of its own is there."""
    state = Path(tempfile.mkdtemp(prefix="sk-"))
    state.chmod(0o755)
    (state / "cache").mkdir()
    os.chown(state / "cache", NOBODY, NOBODY)
    try:
        assert misses(folder, user=NOBODY, SKERRY_STATE=str(state)) == 1
        assert misses(folder, user=NOBODY, SKERRY_STATE=str(state)) == 0
    finally:
        shutil.rmtree(state)


def test_a_folder_of_somebody_else_is_not_trusted(folder: Path, tmp_path: Path, misses: Misses) -> None:
    """What is in it are programs."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of somebody else's")
    close(folder)
    cache = tmp_path / "state" / "cache"
    cache.mkdir(parents=True)
    os.chown(cache, NOBODY, NOBODY)
    assert misses(folder, SKERRY_STATE=str(tmp_path / "state")) == 1
    assert list(cache.iterdir()) == []


def close(folder: Path) -> None:
    """`__pycache__` is a file here: root can write to any folder."""
    (folder / "__pycache__").write_text("")
