"""What drivers say of their engines, and how a replica is started."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from skerry.artifacts.model import EngineKind, Model, ModelFacts, ModelSource, SourceKind
from skerry.inference.engines.base import Lora, Task
from skerry.inference.engines.external import ExternalDriver
from skerry.inference.engines.llamacpp.config import CONFIG_VARIABLE, HostConfig
from skerry.inference.engines.llamacpp.driver import LlamaCppDriver
from skerry.inference.errors import ModelTooLarge
from skerry.kernel.ids import ModelId, ProjectId

GIB = 1024**3
SMOL = Model(
    id=ModelId("model_1"),
    project=ProjectId("proj_1"),
    name="smol",
    engine=EngineKind.LLAMACPP,
    source=ModelSource(SourceKind.PATH, "/models/smol.gguf"),
    context_length=8192,
    license=None,
    facts=ModelFacts(file="/models/smol.gguf", file_bytes=98_000_000, kv_bytes_per_token=23_040),
    shared=True,
    builtin=False,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def test_a_replica_of_the_default_model_has_all_slots():
    plan = LlamaCppDriver(memory_bytes=4 * GIB).plan(SMOL, "hush")
    assert plan.slots == 4
    assert plan.memory_bytes < 2 * GIB, "a small machine can place it"
    assert plan.files == {"key": "hush"}
    assert "hush" not in repr(plan.command) + repr(dict(plan.env))
    config = HostConfig.of(json.loads(plan.env[CONFIG_VARIABLE]))
    assert (config.model, config.alias, config.context_length, config.slots) == ("/models/smol.gguf", "smol", 8192, 4)
    assert "-I" in plan.command


def test_less_memory_gives_fewer_slots_and_then_a_refusal():
    assert LlamaCppDriver(memory_bytes=1 * GIB).plan(SMOL, "").slots == 2
    with pytest.raises(ModelTooLarge) as caught:
        LlamaCppDriver(memory_bytes=GIB // 2).plan(SMOL, "")
    assert caught.value.status == 422
    assert "8192" in caught.value.detail


def test_weights_that_do_not_say_are_thought_large():
    unknown = replace(SMOL, facts=replace(SMOL.facts, kv_bytes_per_token=None))
    with pytest.raises(ModelTooLarge):
        LlamaCppDriver(memory_bytes=4 * GIB).plan(unknown, "")
    assert LlamaCppDriver(memory_bytes=4 * GIB).plan(replace(unknown, context_length=2048), "").slots >= 1


def test_llamacpp_lists_only_what_it_honours():
    profile = LlamaCppDriver(memory_bytes=4 * GIB).profile(SMOL)
    assert {"temperature", "seed", "response_format", "logprobs"} <= profile.parameters
    assert not profile.parameters & {"n", "tools", "tool_choice", "best_of", "echo", "suffix", "reasoning_effort"}
    assert not profile.completion_parameters & {"logprobs", "n", "best_of", "echo", "suffix"}
    assert profile.accepts["n"] == (1,)
    assert profile.extra == {"cache_prompt": False}
    assert not profile.many_prompts


def test_tools_need_a_template_that_knows_them():
    able = replace(SMOL, facts=replace(SMOL.facts, tools=True))
    profile = LlamaCppDriver(memory_bytes=4 * GIB).profile(able)
    assert "tools" in profile.parameters
    assert "tool_choice" not in profile.parameters
    assert profile.accepts["tool_choice"] == ("auto", "none")


def test_an_upstream_is_asked_for_what_openai_has():
    profile = ExternalDriver().profile(SMOL)
    assert {"n", "tools", "tool_choice", "logprobs", "best_of"} <= profile.parameters
    assert not profile.parameters & {"web_search_options", "audio", "prediction", "functions"}
    assert profile.many_prompts


def test_a_model_that_embeds_takes_nothing_else():
    facts = ModelFacts(file="/models/mini", file_bytes=90_000_000, kv_bytes_per_token=24_576, embedding_width=384,
                       format="safetensors", trained_context=512)  # fmt: skip
    mini = replace(SMOL, facts=facts, context_length=512)
    driver = LlamaCppDriver(memory_bytes=4 * GIB)
    profile = driver.profile(mini)
    assert profile.tasks == {Task.EMBEDDING}
    assert profile.can.embeddings
    assert not profile.embedding_parameters, "llama.cpp ignores `dimensions`"
    plan = driver.plan(mini, "")
    assert plan.command[-1].endswith("bert_host")
    assert HostConfig.of(json.loads(plan.env[CONFIG_VARIABLE])).embedding
    whole = driver.plan(replace(mini, facts=replace(facts, format="gguf")), "")
    assert whole.command[-1].endswith(".host")


def test_drivers_declare_what_they_can():
    can = LlamaCppDriver(memory_bytes=4 * GIB).profile(SMOL).can
    assert (can.json_schema, can.regex, can.grammar, can.logprobs, can.lora) == (True, True, True, True, Lora.STATIC)
    assert not ExternalDriver().profile(SMOL).can.regex
    assert "structured_outputs" not in ExternalDriver().profile(SMOL).parameters
