"""Our pages, and the parts of them that tests look at."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: .+ -->\n\Z")
_LINK = re.compile(r"(?<!`)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block. `excused`: a comment `<!-- not run: why -->` stands on the line before it."""

    language: str
    text: str
    excused: bool


def pages() -> list[Path]:
    """All pages that belong to the repository."""
    return sorted(
        path
        for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.md"))
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["text"], bool(_NOT_RUN.search(text[: found.start()])))
        for found in _FENCE.finditer(text)
    ]


def links(page: Path) -> Iterator[str]:
    """Targets of links and pictures, outside of code."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    yield from (found["target"] for found in _LINK.finditer(text))


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub makes of the headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = (found["title"].lower() for found in _HEADING.finditer(text))
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


def commands(script: str) -> list[str]:
    """The commands of a shell block: a line each, here-documents and continued lines as one; comments left out."""
    found: list[str] = []
    lines = iter(script.splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        command = [line]
        while command[-1].endswith("\\"):
            command.append(next(lines))
        if here := re.search(r"<<'?(\w+)'?", line):
            while command[-1] != here[1]:
                command.append(next(lines))
        found.append("\n".join(command))
    return found
