"""The vLLM host program, with a server that takes vLLM's command line; and, where there is one, with vLLM itself."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from skerry.artifacts.model import EngineKind, Model, ModelFacts, ModelSource, SourceKind
from skerry.inference.engines.base import Lora, PrefixCache, Structure, Task
from skerry.inference.engines.vllm.command import arguments, environment
from skerry.inference.engines.vllm.config import CONFIG_VARIABLE, KEY_FILE, VllmConfig
from skerry.inference.engines.vllm.driver import VllmDriver
from skerry.inference.engines.vllm.launch import guard_for
from skerry.inference.engines.vllm.metrics import VllmLoad, load_of
from skerry.kernel.ids import ModelId, ProjectId
from tests.inference.hosts import KEY, Host, start_host
from tests.waiting import eventually_sync

MODULE = "skerry.inference.engines.vllm.host"
CONFIG = VllmConfig("python", "/models/x", "x", context_length=4096, slots=64)
MODEL = Model(
    id=ModelId("model_1"),
    project=ProjectId("proj_1"),
    name="org/x",
    engine=EngineKind.VLLM,
    source=ModelSource(SourceKind.PATH, "/models/x"),
    context_length=4096,
    license=None,
    facts=ModelFacts(file="/models/x", file_bytes=10**9, chat_template=True, tools=True),
    shared=True,
    builtin=False,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


# What is said of it


def test_a_replica_spreads_over_its_accelerators():
    plan = VllmDriver("/opt/vllm/bin/python", accelerators=4).plan(MODEL, "hush")
    assert plan.accelerators == 4
    assert plan.files == {KEY_FILE: "hush"}
    assert "hush" not in repr(plan.command) + repr(dict(plan.env))
    config = VllmConfig.of(json.loads(plan.env[CONFIG_VARIABLE]))
    words = arguments(config, "127.0.0.1", 4001)
    assert words[words.index("--tensor-parallel-size") + 1] == "4"
    assert words[words.index("--served-model-name") + 1] == "org/x"
    assert words[words.index("--max-model-len") + 1] == "4096"
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert {"--enable-lora", "--enable-prefix-caching", "--enable-prompt-tokens-details"} <= set(words)
    assert not {"--trust-remote-code", "--api-key", "--enforce-eager"} & set(words)


def test_a_cpu_build_claims_no_accelerator_and_takes_no_seed():
    driver = VllmDriver("python", accelerators=2, device="cpu")
    plan = driver.plan(MODEL, "")
    assert plan.accelerators == 0
    assert "--enforce-eager" in arguments(VllmConfig.of(json.loads(plan.env[CONFIG_VARIABLE])), "127.0.0.1", 1)
    assert not driver.profile(MODEL).can.seed_safe
    assert VllmDriver("python").profile(MODEL).can.seed_safe


def test_what_vllm_is_said_to_do():
    profile = VllmDriver("python", tool_parser="hermes").profile(MODEL)
    assert profile.structure is Structure.VLLM
    assert profile.prefix_cache is PrefixCache.SALT
    assert profile.can.lora is Lora.HOT
    assert profile.tasks == {Task.CHAT, Task.COMPLETION}
    assert {"tools", "structured_outputs", "n"} <= profile.parameters
    assert not profile.parameters & {"lora", "cache_salt", "priority", "vllm_xargs", "kv_transfer_params"}
    assert "tools" not in VllmDriver("python").profile(MODEL).parameters, "nothing would read its calls"
    mute = replace(MODEL, facts=replace(MODEL.facts, chat_template=False))
    assert VllmDriver("python").profile(mute).tasks == {Task.COMPLETION}


def test_nothing_of_ours_goes_into_its_environment():
    around = {
        "PATH": "/bin",
        "SKERRY_FILES": "/f",
        "VLLM_API_KEY": "k",
        "CUDA_VISIBLE_DEVICES": "2,3",
        "AWS_SECRET": "s",
    }
    env = environment(CONFIG, around, Path("/work"))
    assert env["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["HOME"] == "/work"
    assert not {"SKERRY_FILES", "VLLM_API_KEY", "AWS_SECRET"} & set(env)
    assert environment(replace(CONFIG, lora=False), around, Path("/w"))["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "False"


PAGE = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="x"} 3.0
vllm:num_requests_running{engine="1",model_name="x"} 1.0
vllm:num_requests_waiting{engine="0",model_name="x"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:prefix_cache_queries_total{engine="0"} 1000.0
vllm:prefix_cache_hits_total{engine="0"} 1.0e+02
vllm:generation_tokens_total{engine="0"} 77.0
vllm:nonsense{engine="0"}
python_info 1.0
"""


def test_its_metrics_are_read():
    assert load_of(PAGE) == VllmLoad(4, 2, 0.5, 1000, 100, 77)
    assert load_of(PAGE).requests == 6
    assert load_of("").requests == 0


async def test_the_guard_asks_for_the_key_everywhere_but_at_health():
    reached, said = [], []

    async def app(scope, receive, send):
        reached.append(scope["path"])

    async def send(message):
        said.append(message.get("status"))

    guard = guard_for("k")(app)
    for path, headers in (
        ("/health", []),
        ("/invocations", []),
        ("/tokenize", [(b"authorization", b"Bearer other")]),
        ("/metrics", [(b"authorization", b"Bearer k")]),
    ):
        await guard({"type": "http", "path": path, "headers": headers}, None, send)
    await guard({"type": "websocket", "path": "/v1/realtime", "headers": []}, None, send)
    assert reached == ["/health", "/metrics"]
    assert said.count(401) == 2


# Running


@pytest.fixture(scope="module")
def fake_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An interpreter that has a module `vllm`."""
    folder = Path("/tmp") / f"skerry-fake-vllm-{os.getpid()}"
    subprocess.run([Path(sys.executable).resolve(), "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    module = site / "vllm" / "entrypoints" / "openai"
    module.mkdir(parents=True)
    for place in (module, module.parent, module.parent.parent):
        (place / "__init__.py").touch()
    (module / "api_server.py").write_text((Path(__file__).parent / "fake_vllm.py").read_text())
    yield str(folder / "bin" / "python")
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture
def start(short_tmp: Path, fake_python: str) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def begin(**changes) -> Host:
        config = replace(CONFIG, **{"python": fake_python, "grace_seconds": 10.0, **changes})
        work = Path(short_tmp) / f"vllm{len(hosts)}-{os.urandom(3).hex()}"
        hosts.append(start_host(MODULE, work, config.to_json(), {"VLLM_API_KEY": "not-this"}, drop=False))
        return hosts[-1]

    yield begin
    for host in hosts:
        host.end()


def seen(host: Host) -> dict:
    return json.loads((host.report_file.parent / "seen.json").read_text())


def test_a_replica_is_warm_before_it_reports(start):
    host = start(device="cpu").wait_ready()
    assert host.report["slots"] == 64
    asked = json.loads((host.report_file.parent / "asked.json").read_text())
    assert [path for path, _ in asked] == ["/v1/completions", "/v1/completions", "/v1/chat/completions"]
    assert "logprobs" in asked[1][1] and "top_logprobs" in asked[2][1]
    assert host.post("/v1/completions", {"max_tokens": 3}).json()["usage"]["completion_tokens"] == 3


def test_the_key_is_neither_in_the_command_line_nor_in_the_environment(start):
    host = start().wait_ready()
    assert seen(host)["options"]["api_key"] == KEY
    assert KEY not in seen(host)["cmdline"] + json.dumps(seen(host)["env"])
    for path in ("/invocations", "/metrics", "/v1/completions"):
        assert httpx.post(host.report["address"] + path).status_code == 401


def test_sigterm_lets_a_request_finish(start):
    host = start().wait_ready()
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(host.post("/v1/completions", {"prompt": "slow 1.5"})))
    asking.start()
    headers = {"Authorization": f"Bearer {KEY}"}
    eventually_sync(
        lambda: 'running{engine="0"} 1' in httpx.get(host.report["address"] + "/metrics", headers=headers).text
    )
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(20) == 0
    asking.join(5)
    assert answers[0].status_code == 200


def test_the_server_does_not_outlive_its_host(start):
    host = start().wait_ready()
    host.process.kill()
    host.process.wait()

    def gone() -> bool:
        try:
            httpx.get(host.report["address"] + "/health", timeout=1)
        except httpx.HTTPError:
            return True
        return False

    eventually_sync(gone)


def test_a_cut_lifeline_ends_both(start):
    host = start().wait_ready()
    os.close(host.lifeline)
    host.lifeline = os.open(os.devnull, os.O_RDONLY)
    host.process.wait(10)
    with pytest.raises(httpx.HTTPError):
        httpx.get(host.report["address"] + "/health", timeout=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "/models/crash"}, "vLLM ended with exit code 3"),
        ({"model": "/models/refuse"}, "the first request to /v1/completions failed with 500"),
        ({"python": "/nowhere/python"}, "Set SKERRY_VLLM_PYTHON"),
        ({"python": sys.executable}, "has no vLLM"),
    ],
)
def test_what_keeps_it_from_starting_is_said(start, changes, words):
    host = start(**changes)
    assert host.process.wait(30) == 1
    assert words in host.log.read_text()
    assert not host.report_file.exists()


def test_the_server_dying_ends_the_replica(start):
    host = start().wait_ready()
    (child,) = Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    assert host.process.wait(10) != 0
    assert "vLLM ended" in host.log.read_text()


# vLLM itself, where the operator has one: a CPU build will do

REAL = os.environ.get("SKERRY_TEST_VLLM_PYTHON")
CHECKPOINT = os.environ.get("SKERRY_TEST_VLLM_MODEL")


@pytest.mark.skipif(
    not (REAL and CHECKPOINT),
    reason="opt-in: SKERRY_TEST_VLLM_PYTHON (a Python with vLLM) and SKERRY_TEST_VLLM_MODEL (a folder) are not set",
)
def test_vllm_itself_answers(short_tmp: Path):
    device = os.environ.get("SKERRY_TEST_VLLM_DEVICE", "cpu")
    config = VllmConfig(REAL, CHECKPOINT, "x", context_length=512, slots=4, device=device, chat=False, lora=False)
    host = start_host(MODULE, Path(short_tmp) / "real", config.to_json(), drop=False)
    try:
        host.wait_ready(600)
        body = {"model": "x", "prompt": "Hello " * 64, "max_tokens": 4, "cache_salt": "a"}
        host.post("/v1/completions", body)
        again = host.post("/v1/completions", body).json()["usage"]
        other = host.post("/v1/completions", {**body, "cache_salt": "b"}).json()["usage"]
        assert again["prompt_tokens_details"]["cached_tokens"] > 0
        assert not (other["prompt_tokens_details"] or {}).get("cached_tokens")
        wanted = {"model": "x", "prompt": "Hi", "max_tokens": 8, "structured_outputs": {"regex": r"\d{3}"}}
        assert host.post("/v1/completions", wanted).json()["choices"][0]["text"].isdigit()
        host.process.send_signal(signal.SIGTERM)
        assert host.process.wait(60) == 0
    finally:
        host.end()
