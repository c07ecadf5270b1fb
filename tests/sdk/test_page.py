"""The programs of `use-your-sdk.md`, run as they are written."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT
from tests.docs.sections import program as written
from tests.sdk.programs import BUILD, PROGRAMS, Surroundings, run

pytestmark = [pytest.mark.cloud, pytest.mark.sdk]

PAGE = ROOT / "docs" / "how-to" / "use-your-sdk.md"
HEADINGS = {"langchain": "LangChain", "llamaindex": "LlamaIndex", "litellm": "LiteLLM"}


@pytest.mark.parametrize("name", HEADINGS)
def test_the_program_answers(name: str, surroundings: Surroundings, tmp_path: Path) -> None:
    client = PROGRAMS[name]
    client.require()
    source = tmp_path / "program.py"
    source.write_text(written(PAGE, HEADINGS[name], "python"))
    assert surroundings.embeds, "the page shows embeddings"
    lines = run([client.interpreter, source], surroundings.environment()).strip().splitlines()
    assert len("".join(lines[:-1]).strip()) > 1
    assert lines[-1] == "384"


def test_the_program_for_node_answers(surroundings: Surroundings) -> None:
    client = PROGRAMS["node"]
    client.require()
    source = BUILD / "node" / "page.mjs"  # Node looks for packages beside the program
    source.write_text(written(PAGE, "OpenAI for Node", "js"))
    assert run([client.interpreter, source], surroundings.environment()).strip()


def test_the_versions_named_are_the_ones_pinned() -> None:
    page = PAGE.read_text()
    pins = dict(
        line.split("==")
        for name in HEADINGS
        for line in (ROOT / "tests/sdk/pins" / f"{name}.txt").read_text().splitlines()
    )
    for package in ("langchain-openai", "langchain-core", "llama-index-core", "litellm"):
        assert f"{package} {pins[package]}" in page
    for part in ("llms-openai-like", "embeddings-openai-like"):
        assert f"{part} {pins[f'llama-index-{part}']}" in page
    script = (ROOT / "scripts" / "sdk-clients.sh").read_text()
    for name, words in (("OPENAI_NODE", "openai {}"), ("NODE", "Node {}")):
        found = re.search(rf"^{name}=(\S+)$", script, re.MULTILINE)
        assert found
        assert words.format(found[1]) in page
