"""Links lead somewhere, and what is made from the code is current."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.markdown import ROOT, anchors, links, pages

FOREIGN = ("http://", "https://", "mailto:")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = [target for target in links(page) if not target.startswith(FOREIGN) and not _exists(page, target)]
    assert not broken


def test_every_page_of_docs_is_in_the_index() -> None:
    folder = ROOT / "docs"
    listed = {(folder / target.partition("#")[0]).resolve() for target in links(folder / "index.md")}
    missing = [page.relative_to(folder) for page in folder.rglob("*.md") if page.name != "index.md"]
    assert [page for page in missing if (folder / page) not in listed] == []


def test_the_reference_is_what_the_code_says() -> None:
    made = _generator().pages()
    stale = [
        name for name, text in made.items() if (ROOT / "docs/reference" / name).read_text(encoding="utf-8") != text
    ]
    assert not stale, "run `python scripts/docs.py`"


def _exists(page: Path, target: str) -> bool:
    path, _, fragment = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    return found.exists() and (not fragment or fragment in anchors(found))


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("skerry_docs", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["skerry_docs"] = module
    spec.loader.exec_module(module)
    return module
