"""Client libraries as users have them: each in its own process, with its own packages, knowing an address and a key."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import MODEL, Cloud

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "tests" / "sdk" / "clients"
BUILD = ROOT / "build" / "sdk"
EMBEDDING_MODEL = "all-minilm-l6-v2"
SECONDS = 240.0
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no fetching of a price list at import
    "LANGSMITH_TRACING": "false",
    "DO_NOT_TRACK": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True)
class Program:
    """A client library, the program that tries it, and the module that its exceptions come from."""

    name: str
    source: str
    errors: str
    lacks: frozenset[str] = frozenset()
    """Checks for which it has no means of its own."""

    @property
    def interpreter(self) -> Path:
        if self.source.endswith(".mjs"):
            return BUILD / self.name / "node_modules" / ".bin" / "node"
        return BUILD / self.name / "bin" / "python"

    def require(self) -> None:
        """Skips the test where this library was not set up."""
        if not self.interpreter.exists():
            pytest.skip(f"{self.name} is not in build/sdk: run scripts/sdk-clients.sh")


PROGRAMS = {
    program.name: program
    for program in (
        Program("node", "node_client.mjs", "openai"),
        Program("langchain", "langchain_client.py", "openai", frozenset({"batches"})),
        Program("llamaindex", "llamaindex_client.py", "openai", frozenset({"batches", "tools"})),
        Program("litellm", "litellm_client.py", "litellm", frozenset({"batches"})),
    )
}


class Surroundings:
    """What the programs are told, and what they said. Each is run once."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        served = {model["id"] for model in cloud.get("/v1/models", cloud.project_key).json()["data"]}
        self.embeds = EMBEDDING_MODEL in served
        paths = cloud.get("/openapi.json").json()["paths"]
        self.has_batches = "/v1/batches" in paths and "/v1/files" in paths
        self._said: dict[str, dict[str, dict[str, Any]]] = {}

    def environment(self) -> dict[str, str]:
        ours = ("SKERRY_", "OPENAI_", "PYTHON", "VIRTUAL_ENV")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
            "NO_PROXY": "127.0.0.1",
            **_QUIET,
            "OPENAI_BASE_URL": f"{self.cloud.url}/v1",
            "OPENAI_API_KEY": self.cloud.project_key,
        }

    def seen_by(self, program: Program) -> dict[str, dict[str, Any]]:
        """By check. A program that ends badly fails the test with what it wrote."""
        if program.name not in self._said:
            program.require()
            self._said[program.name] = self._run(program)
        return self._said[program.name]

    def _run(self, program: Program) -> dict[str, dict[str, Any]]:
        slow = self.cloud.new_key(f"slow {program.name}", limits={"requests_per_minute": 1})["key"]
        told = {
            **self.environment(),
            "CHAT_MODEL": MODEL,
            "EMBEDDING_MODEL": EMBEDDING_MODEL if self.embeds else "",
            "SLOW_KEY": slow,
            "WITH_BATCHES": "1" if self.has_batches else "",
        }
        source = CLIENTS / program.source
        if source.suffix == ".mjs":
            # Node looks for packages beside the program.
            copy = BUILD / program.name / program.source
            copy.write_text(source.read_text())
            source = copy
        done = run([program.interpreter, source], told)
        lines = [json.loads(line) for line in done.splitlines() if line.startswith('{"check"')]
        return {line.pop("check"): line for line in lines}


def run(command: list[Path | str], environment: dict[str, str], folder: Path | None = None) -> str:
    """What it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
