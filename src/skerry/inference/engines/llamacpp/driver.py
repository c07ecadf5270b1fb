"""llama.cpp through `xllamacpp`: GGUF models on CPUs, one child process a replica.

What is in the lists below was tried by hand, value by value; engines/README.md has the table.
"""

import json
import sys
from dataclasses import dataclass
from typing import Final

from skerry.artifacts.model import EngineKind, Model, WeightsFormat
from skerry.inference.engines.base import (
    Capabilities,
    EngineProfile,
    LaunchPlan,
    Lora,
    PrefixCache,
    Structure,
    Task,
)
from skerry.inference.engines.llamacpp.config import CONFIG_VARIABLE, KEY_FILE, HostConfig
from skerry.inference.engines.llamacpp.machine import LEAST_SLOTS
from skerry.inference.errors import ModelTooLarge

_SAMPLING: Final = frozenset(
    {"temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias"}
)
_STRUCTURE: Final = frozenset({"response_format", "structured_outputs"})
"""Checked and translated by the gateway: what llama.cpp cannot use it ignores."""
_TEXT: Final = _SAMPLING | _STRUCTURE
_CHAT: Final = _TEXT | {"logprobs", "top_logprobs"}
_ACCEPTS: Final = {
    # Its usage covers one choice, however many were asked for.
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
_TOOL_VALUES: Final = {
    # `required` and named tools are ignored by this build.
    "tool_choice": ("auto", "none"),
    "parallel_tool_calls": (True,),
}
_COMPUTE_BYTES: Final = 384 * 1024**2
"""Buffers, threads and Python, beside weights and caches."""
_DEFAULT_KV: Final = 512 * 1024
"""Bytes of cache a token where the weights do not say: that of an 8 B model without grouped heads."""


@dataclass(frozen=True, slots=True)
class LlamaCppDriver:
    memory_bytes: int
    """What a replica may use at most."""
    most_slots: int = LEAST_SLOTS
    """More share the same cores, and each costs a context of memory. `machine.Machine.slots` says how many suit one."""
    grace_seconds: float = 30.0
    python: str = sys.executable

    kind = EngineKind.LLAMACPP
    launches = True

    def profile(self, model: Model) -> EngineProfile:
        return self._embedding_profile() if model.facts.embeds else self._text_profile(model.facts.tools)

    def _embedding_profile(self) -> EngineProfile:
        return EngineProfile(
            kind=self.kind,
            parameters=frozenset(),
            cached_tokens_in_usage=False,
            tasks=frozenset({Task.EMBEDDING}),
            can=Capabilities(embeddings=True),
        )

    def _text_profile(self, tools: bool) -> EngineProfile:
        return EngineProfile(
            kind=self.kind,
            parameters=_CHAT | {"tools"} if tools else _CHAT,
            completion_parameters=_TEXT,
            cached_tokens_in_usage=True,
            tokenize_path="/tokenize",
            chat_count_path="/v1/chat/completions/input_tokens",
            max_tokens_field="max_tokens",
            extra={"cache_prompt": False},
            accepts={**_ACCEPTS, **_TOOL_VALUES} if tools else _ACCEPTS,
            many_prompts=False,
            prefix_cache=PrefixCache.SLOTS,
            can=Capabilities(json_schema=True, regex=True, grammar=True, logprobs=True, tools=tools, lora=Lora.STATIC),
            structure=Structure.LLAMACPP,
        )

    def plan(self, model: Model, key: str) -> LaunchPlan:
        """Raises ModelTooLarge where not even one request of full length fits the memory of a replica."""
        base, context = self._fixed_bytes(model), self._context_bytes(model)
        slots = min(self.most_slots, (self.memory_bytes - base) // context)
        if slots < 1:
            raise ModelTooLarge(model.name, base + context, self.memory_bytes, model.context_length)
        program = "bert_host" if model.facts.format == WeightsFormat.SAFETENSORS else "host"
        config = HostConfig(
            model=model.facts.file or model.source.location,
            alias=model.name,
            context_length=model.context_length,
            slots=slots,
            fixed_bytes=base,
            slot_bytes=context,
            embedding=model.facts.embeds,
            grace_seconds=max(1.0, self.grace_seconds - 2.0),
        )
        return LaunchPlan(
            # -I: the work folder, which the unprivileged user owns, must not be a place to import from.
            command=(self.python, "-I", "-m", f"skerry.inference.engines.llamacpp.{program}"),
            env={CONFIG_VARIABLE: json.dumps(config.to_json())},
            files={KEY_FILE: key},
            slots=slots,
            memory_bytes=min(self.memory_bytes, (base + slots * context) * 5 // 4),
            grace_seconds=self.grace_seconds,
        )

    def _fixed_bytes(self, model: Model) -> int:
        # Weights may be held twice: as the file has them, and packed anew for the processor.
        return 2 * (model.facts.file_bytes or 0) + _COMPUTE_BYTES

    def _context_bytes(self, model: Model) -> int:
        return model.context_length * (model.facts.kv_bytes_per_token or _DEFAULT_KV)
