"""Values of the catalogue: models, where their weights come from, and what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from skerry.kernel.ids import ModelId, ProjectId

FINE_TUNED_PREFIX = "ft:"
"""Names that begin so belong to fine-tuned models."""


class EngineKind(StrEnum):
    """Who answers: our own child process with llama.cpp, vLLM's server on GPU nodes, or any OpenAI-compatible URL."""

    LLAMACPP = "llamacpp"
    VLLM = "vllm"
    EXTERNAL = "external"


class SourceKind(StrEnum):
    PATH = "path"
    """A file or folder on the operator's disk."""
    HUB = "hub"
    """An id on a model hub."""
    UPSTREAM = "upstream"
    """An OpenAI-compatible server that has it already."""


class ModelStatus(StrEnum):
    ACTIVE = "active"
    REMOVED = "removed"
    """Not served any more; kept because usage and invoices name it."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """`location` is the path, hub id or base URL. The key of an upstream is not here: it is write-only."""

    kind: SourceKind
    location: str
    upstream_model: str | None = None
    """What the upstream calls it; None: the same name."""
    has_key: bool = False


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the weights say of themselves. Sizes in bytes; None: not known."""

    file: str | None = None
    """The file to load, where the source is a folder."""
    file_bytes: int | None = None
    architecture: str | None = None
    title: str | None = None
    trained_context: int | None = None
    tokenizer: str | None = None
    parameters: int | None = None
    kv_bytes_per_token: int | None = None
    """Memory of the attention cache for one token, 16-bit."""
    chat_template: bool = False
    tools: bool = False
    """Whether the chat template knows tools."""


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """Per million tokens, in the currency of the price book. None: the book's default row."""

    prompt: Decimal | None = None
    cached: Decimal | None = None
    completion: Decimal | None = None

    def given(self) -> Mapping[str, Decimal]:
        prices = {"prompt": self.prompt, "cached": self.cached, "completion": self.completion}
        return {name: price for name, price in prices.items() if price is not None}


@dataclass(frozen=True, slots=True)
class NewModel:
    """A wish to add a model, not yet checked. `source.has_key` follows from `upstream_key`."""

    name: str
    source: ModelSource
    engine: EngineKind | None = None
    """None: what fits the source."""
    context_length: int | None = None
    license: str | None = None
    prices: ModelPrices = field(default_factory=ModelPrices)
    upstream_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Model:
    """An entry of the catalogue. `project` owns it; a `shared` one may be called by every project."""

    id: ModelId
    project: ProjectId
    name: str
    engine: EngineKind
    source: ModelSource
    context_length: int
    license: str | None
    facts: ModelFacts
    shared: bool
    builtin: bool
    """Added by the first start, not by a person."""
    created_at: datetime
    removed_at: datetime | None = None

    @property
    def status(self) -> ModelStatus:
        return ModelStatus.ACTIVE if self.removed_at is None else ModelStatus.REMOVED

    @property
    def upstream_model(self) -> str:
        """The name the engine knows it by."""
        return self.source.upstream_model or self.name

    def described(self) -> dict[str, Any]:
        """For events and the audit trail: no secret in it."""
        return {"name": self.name, "engine": self.engine.value, "source": self.source.kind.value}
