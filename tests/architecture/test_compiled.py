"""What runs as machine code is what the source says."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def compiling():
    spec = importlib.util.spec_from_file_location("compiling", ROOT / "scripts" / "compile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_compiled_module_is_older_than_its_source(compiling):
    if not compiling.built():
        pytest.skip("nothing is compiled here: the gateway runs as plain Python")
    noted = json.loads(compiling.NOTE.read_text())["sources"]
    stale = [name for name in compiling.HOT if noted.get(name) != compiling.digest(compiling.SOURCE / name)]
    assert not stale, f"changed since they were compiled, run `make compile`: {', '.join(stale)}"


def test_every_module_that_is_to_be_compiled_exists(compiling):
    missing = [name for name in compiling.HOT if not (compiling.SOURCE / name).exists()]
    assert not missing


def test_whatever_is_compiled_is_what_gets_imported(compiling):
    if not compiling.built():
        pytest.skip("nothing is compiled here: the gateway runs as plain Python")
    code = "import skerry.inference.gateway.exchange as m; print(m.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(".so")
