"""vLLM's own server: safetensors on GPUs, one server process a replica, tensor parallel over its accelerators."""

import json
import sys
from dataclasses import dataclass
from typing import Final

from skerry.artifacts.model import EngineKind, Model
from skerry.inference.engines.base import (
    Capabilities,
    EngineProfile,
    LaunchPlan,
    Lora,
    PrefixCache,
    Structure,
    Task,
)
from skerry.inference.engines.vllm.config import CONFIG_VARIABLE, KEY_FILE, VllmConfig

_SAMPLING: Final = frozenset(
    {"temperature", "top_p", "stop", "n", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "seed"}
)
_TEXT: Final = _SAMPLING | {"response_format", "structured_outputs"}
_CHAT: Final = _TEXT | {"top_logprobs"}
_TOOLS: Final = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
_ACCEPTS: Final = {"best_of": (1,), "suffix": ("",), "echo": (False,)}
_CPU_BYTES: Final = 4 * 1024**3
"""Memory of the machine that a replica takes beside its weights: the server, its workers, buffers for copies."""


@dataclass(frozen=True, slots=True)
class VllmDriver:
    python: str
    """The interpreter that has vLLM."""
    accelerators: int = 1
    """GPUs of one replica: tensor parallel over all of them."""
    device: str = "cuda"
    """`cuda`, or `cpu` for a CPU build."""
    tool_parser: str | None = None
    """Name of vLLM's parser of tool calls; without one tools can be asked for only by `tool_choice`."""
    slots: int = 256
    grace_seconds: float = 60.0
    own_python: str = sys.executable

    kind = EngineKind.VLLM
    launches = True

    def profile(self, model: Model) -> EngineProfile:
        tools = model.facts.tools and self.tool_parser is not None
        tasks = {Task.COMPLETION, Task.CHAT} if model.facts.chat_template else {Task.COMPLETION}
        return EngineProfile(
            kind=self.kind,
            parameters=_CHAT | _TOOLS if tools else _CHAT,
            completion_parameters=_TEXT,
            cached_tokens_in_usage=True,
            max_tokens_field="max_tokens",
            accepts=_ACCEPTS,
            prefix_cache=PrefixCache.SALT,
            tasks=frozenset(tasks),
            structure=Structure.VLLM,
            can=Capabilities(
                json_schema=True,
                regex=True,
                grammar=True,
                logprobs=True,
                tools=tools,
                # A seed with a chunked prefill ends the engine of CPU builds.
                seed_safe=self.device != "cpu",
                lora=Lora.HOT,
            ),
        )

    def plan(self, model: Model, key: str) -> LaunchPlan:
        accelerators = 0 if self.device == "cpu" else self.accelerators
        config = VllmConfig(
            python=self.python,
            model=model.facts.file or model.source.location,
            alias=model.name,
            context_length=model.context_length,
            slots=self.slots,
            tensor_parallel=max(1, accelerators),
            chat=model.facts.chat_template,
            device=self.device,
            tool_parser=self.tool_parser if model.facts.tools else None,
            grace_seconds=max(1.0, self.grace_seconds - 5.0),
        )
        return LaunchPlan(
            command=(self.own_python, "-I", "-m", "skerry.inference.engines.vllm.host"),
            env={CONFIG_VARIABLE: json.dumps(config.to_json())},
            files={KEY_FILE: key},
            slots=self.slots,
            memory_bytes=_CPU_BYTES + (model.facts.file_bytes or 0),
            grace_seconds=self.grace_seconds,
            accelerators=accelerators,
        )
