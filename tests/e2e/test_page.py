"""The programs of `use-your-sdk.md` and `batches.md` that need no library beside OpenAI's, run as they are written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cloud import Cloud
from tests.docs.markdown import ROOT
from tests.docs.sections import program

pytestmark = pytest.mark.cloud

SDK = ROOT / "docs" / "how-to" / "use-your-sdk.md"
BATCHES = ROOT / "docs" / "how-to" / "batches.md"


def run(cloud: Cloud, command: list[str], folder: Path) -> str:
    told = {"OPENAI_BASE_URL": f"{cloud.url}/v1", "OPENAI_API_KEY": cloud.project_key, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command, env={**os.environ, **told}, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_curl_gets_an_answer(cloud: Cloud, tmp_path: Path) -> None:
    assert '"chat.completion"' in run(cloud, ["sh", "-c", program(SDK, "curl", "sh")], tmp_path)


def test_the_python_sdk_streams_and_says_the_cost(cloud: Cloud, tmp_path: Path) -> None:
    said = run(cloud, [sys.executable, "-c", program(SDK, "OpenAI for Python", "python")], tmp_path)
    text, _, last = said.rstrip("\n").rpartition("\n")
    assert text.strip()
    assert re.fullmatch(r" [1-9]\d* tokens, 0\.\d*[1-9]\d*", last)


def test_a_batch_runs_from_file_to_answers(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text(program(BATCHES, "The input", "json"))
    source = program(BATCHES, "With the OpenAI SDK", "python")
    source = source.replace("http://127.0.0.1:8080/v1", f"{cloud.url}/v1").replace("sk-…", cloud.project_key)
    said = run(cloud, [sys.executable, "-c", source.replace("sleep(5)", "sleep(0.2)")], tmp_path)
    assert '"custom_id":"island-1"' in said.replace(" ", "")
    assert '"custom_id":"island-2"' in said.replace(" ", "")
    assert said.replace(" ", "").count('"status_code":200') == 2
