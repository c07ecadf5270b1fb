"""Programs on our pages, found by the heading they stand under."""

from pathlib import Path

from tests.docs.markdown import blocks


def program(page: Path, heading: str, language: str) -> str:
    """The first block of that language in the section."""
    text = page.read_text(encoding="utf-8")
    _, found, rest = text.partition(f"\n## {heading}\n")
    assert found, f"{page.name} has no section '{heading}'"
    section = rest.partition("\n## ")[0]
    for block in blocks(page):
        if block.language == language and block.text in section:
            return block.text
    raise AssertionError(f"no {language} block under '{heading}' in {page.name}")
