"""Tutorials are run: shell and Python blocks, in order, as they are written."""

from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, blocks
from tests.docs.newcomer import Newcomer

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
RUNNERS = {"sh", "python"}
SHOWN = {"text", "toml", "json"}
"""Languages of blocks that show what one gets to see."""


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_block_is_run_shown_or_excused(page: Path) -> None:
    odd = [block.text for block in blocks(page) if not block.excused and block.language not in RUNNERS | SHOWN]
    assert not odd, "give these a language, or say above them <!-- not run: why -->"


@pytest.mark.cloud
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_the_tutorial_works(page: Path, newcomer: Newcomer) -> None:
    heard = []
    for block in blocks(page):
        if block.excused or block.language not in RUNNERS:
            continue
        if block.language == "sh":
            newcomer.paste(block.text)
        else:
            heard.append(newcomer.python(block.text))
    assert heard, "a tutorial without Python is not yet one of ours"
    assert all(said.strip() for said in heard), "every program of a tutorial shows something"
    assert "total" in newcomer.heard("skerry costs")
