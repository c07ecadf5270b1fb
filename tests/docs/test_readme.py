"""The first five minutes of the README, run as they are written."""

import re

import pytest

from tests.docs.markdown import ROOT, commands
from tests.docs.newcomer import Newcomer

README = (ROOT / "README.md").read_text(encoding="utf-8")
MARK = "<!-- five-minutes: tests/docs/test_readme.py runs the block below -->"


def five_minutes() -> str:
    found = re.search(re.escape(MARK) + r"\n```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the block after {MARK} is gone"
    return found[1]


def test_the_block_begins_with_make_up_and_ends_with_down() -> None:
    steps = commands(five_minutes())
    assert steps[0] == "make up"
    assert steps[-1].startswith(".venv/bin/skerry down")


@pytest.mark.cloud
def test_the_first_five_minutes(newcomer: Newcomer) -> None:
    newcomer.paste(five_minutes())
    assert f"http://127.0.0.1:{newcomer.port}" in newcomer.heard("make up")
    assert " cost " in newcomer.heard("make up")
    for role in ("launcher", "database", "agent", "server", "controller", "gateway", "shipper", "replica"):
        assert re.search(rf"^{role} .*running", newcomer.heard("skerry status"), re.MULTILINE)
    assert "completion tokens" in newcomer.heard("-m pip") + newcomer.heard("PYTHON")
    assert re.search(r"^tokens_completion +\d+", newcomer.heard("skerry usage"), re.MULTILINE)
    assert re.search(r"^total +0\.0000\d+ USD", newcomer.heard("skerry costs"), re.MULTILINE)
    assert re.search(r"sk-[\w-]{48}", newcomer.heard("keys create"))
    assert "ci" in newcomer.heard("keys list")
    assert re.search(r"^remote +external +32,768", newcomer.heard("models list"), re.MULTILINE)
    assert "stopped" in newcomer.heard("skerry down")
