"""Any OpenAI-compatible server. It refuses what it does not have; we refuse what is billed otherwise."""

from dataclasses import dataclass
from typing import Final

from skerry.artifacts.model import EngineKind, Model
from skerry.inference.engines.base import Capabilities, EngineProfile, LaunchPlan, Task

_PARAMETERS: Final = frozenset(
    {
        "best_of",
        "echo",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "suffix",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "verbosity",
    }
)


@dataclass(frozen=True, slots=True)
class ExternalDriver:
    kind = EngineKind.EXTERNAL
    launches = False

    def profile(self, model: Model) -> EngineProfile:
        return EngineProfile(
            kind=self.kind,
            parameters=_PARAMETERS,
            completion_parameters=_PARAMETERS - {"response_format"},
            embedding_parameters=frozenset({"dimensions"}),
            cached_tokens_in_usage=True,
            # Which of them it has is its own to say.
            tasks=frozenset(Task),
            can=Capabilities(json_schema=True, logprobs=True, tools=True, embeddings=True),
        )

    def plan(self, model: Model, key: str) -> LaunchPlan:
        raise NotImplementedError("an upstream runs elsewhere")
