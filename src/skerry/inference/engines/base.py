"""What a driver says of its engine. The HTTP wire is the seam: the gateway talks OpenAI to every engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from skerry.artifacts.model import EngineKind, Model

__all__ = [
    "Capabilities",
    "Driver",
    "EngineKind",
    "EngineProfile",
    "LaunchPlan",
    "Lora",
    "PrefixCache",
    "Structure",
    "Task",
]


class Task(StrEnum):
    """What a model is asked for; each is a path of the wire."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"


class PrefixCache(StrEnum):
    """How an engine keeps the work done on one project's prompts from another project (I12)."""

    OFF = "off"
    """It reuses nothing between requests, or that is its own business (an upstream)."""
    SLOTS = "slots"
    """Each slot holds what it worked on last. A request that names a slot (`id_slot`) and sets `cache_prompt` reuses
    that slot's beginning and no other's: whoever sends it must know that the slot was the same project's before."""
    SALT = "salt"
    """Beginnings are shared by requests with the same `cache_salt`: the gateway sends one for each project."""


class Structure(StrEnum):
    """In which words an engine is told what an answer must look like; `gateway/translate.py` speaks them."""

    NONE = "none"
    """Only OpenAI's own `response_format`, where it is in `parameters`."""
    LLAMACPP = "llamacpp"
    """`json_schema` and `grammar` (GBNF) at the top of the body."""
    VLLM = "vllm"
    """`structured_outputs`, as the client sends it."""


class Lora(StrEnum):
    """How an engine takes adapters."""

    NONE = "none"
    STATIC = "static"
    """Named when it starts: a new adapter is a new process."""
    HOT = "hot"
    """Loaded and unloaded while it runs."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver declares of its engine, model by model. The gateway refuses or translates by it."""

    json_schema: bool = False
    regex: bool = False
    grammar: bool = False
    logprobs: bool = False
    tools: bool = False
    embeddings: bool = False
    seed_safe: bool = True
    """Whether a `seed` may be passed on. Where not, it is left out: the answer is then not repeatable."""
    lora: Lora = Lora.NONE


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """What an engine can do, as the gateway needs to know it.

    `parameters` are the request fields passed on as they are, beside the ones every engine has
    (`model messages prompt stream stream_options max_tokens max_completion_tokens`). Everything else is a 400.
    """

    kind: EngineKind
    parameters: frozenset[str]
    cached_tokens_in_usage: bool
    """Whether `usage.prompt_tokens_details.cached_tokens` is filled."""
    tokenize_path: str | None = None
    """Route of the replica that counts the tokens of `{"content": …}`, for answers that end without usage."""
    max_tokens_field: str = "max_tokens"
    """Name under which the engine takes the limit of the answer."""
    extra: dict[str, object] = field(default_factory=dict)
    """Fixed fields added to each upstream request."""
    completion_parameters: frozenset[str] | None = None
    """`parameters` of /v1/completions, where they are others."""
    accepts: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """Values that ask for nothing special, of fields that are not in `parameters`: they are taken and left out."""
    many_prompts: bool = True
    """Whether its usage covers a `prompt` that is a list of prompts. Where not, more than one is a 400."""
    chat_count_path: str | None = None
    """Route that takes a chat request and answers `{"input_tokens": n}`, the template's tokens included."""
    prefix_cache: PrefixCache = PrefixCache.OFF
    tasks: frozenset[Task] = frozenset({Task.CHAT, Task.COMPLETION})
    """What it may be asked for; anything else is a 400."""
    can: Capabilities = field(default_factory=Capabilities)
    structure: Structure = Structure.NONE
    embedding_parameters: frozenset[str] = frozenset()
    """`parameters` of /v1/embeddings, beside `model input encoding_format user`: `dimensions`, where it can shorten."""


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """How a replica of a model is started. `memory_bytes` is what it is expected to use at most."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, str] = field(repr=False)
    """Secrets."""
    slots: int
    memory_bytes: int
    grace_seconds: float
    accelerators: int = 0
    """GPUs it needs, all on one node."""


class Driver(Protocol):
    """One kind of engine."""

    kind: EngineKind
    launches: bool
    """Whether replicas are workloads of ours. Where not, the model's upstream is the one replica."""

    def profile(self, model: Model) -> EngineProfile: ...

    def plan(self, model: Model, key: str) -> LaunchPlan:
        """Raises Invalid where the model cannot be run within the limits of a replica."""
        ...
