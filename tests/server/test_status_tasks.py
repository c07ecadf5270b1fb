"""`skerry status` tells what each task of the engine is."""

import json
import os
from pathlib import Path

import pytest

from skerry.compute.instances import handing, wiping
from skerry.compute.task import wrapping
from skerry.server.status import agent_tasks


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["python", "-I", "-m", "skerry.inference.engines.llamacpp.host"], "replica"),
        (["vllm", "serve"], "replica"),
        (["python", *wrapping.PROGRAM], "job"),
        (["python", "-I", "-m", handing.PREPARE, handing.PROGRAM], "instance"),
        (["python", "-I", "-m", wiping.PROGRAM], "volume"),
        (["python", "-I", "-m", "skerry.compute.health.checks", "burn_in"], "check"),
    ],
)
def test_a_task_is_called_what_it_is(tmp_path: Path, command: list[str], role: str) -> None:
    for name, file, text in (
        ("att_1", "gang.json", {"workload": "wl_1", "command": command}),
        ("att_1-0", "state.json", {"attempt": "att_1", "pid": os.getpid(), "report": {"ready": True}}),
    ):
        folder = tmp_path / "run" / "agent" / name
        folder.mkdir(parents=True)
        (folder / file).write_text(json.dumps(text))
    expected = {"role": role, "pid": os.getpid(), "status": "running", "resource": "wl_1"}
    assert agent_tasks(tmp_path) == [expected]
