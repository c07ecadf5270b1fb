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
    DOWNLOADING = "downloading"
    """It comes from a hub; its endpoint waits for it."""
    FAILED = "failed"
    """It cannot be had from the hub; `status_reason` says why."""
    REMOVED = "removed"
    """Not served any more; kept because usage and invoices name it."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One of the servers that have a model. Its key is not here: it is write-only."""

    url: str
    weight: int = 100
    """Its share beside the others: 5 beside 95 is a canary."""
    has_key: bool = False


@dataclass(frozen=True, slots=True)
class ModelSource:
    """`location` is the path, hub id or (first) base URL. The key of an upstream is not here: it is write-only."""

    kind: SourceKind
    location: str
    upstream_model: str | None = None
    """What the upstream calls it; None: the same name."""
    has_key: bool = False
    upstreams: tuple[Upstream, ...] = ()
    """Where there are several; see `servers`."""

    @property
    def servers(self) -> tuple[Upstream, ...]:
        """The upstreams, however many; none of a model of our own."""
        if self.kind is not SourceKind.UPSTREAM:
            return ()
        return self.upstreams or (Upstream(self.location, has_key=self.has_key),)


class WeightsFormat(StrEnum):
    GGUF = "gguf"
    """One file, with the vocabulary in it."""
    SAFETENSORS = "safetensors"
    """A folder, with `config.json` and the tokenizer beside the weights."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the weights say of themselves. Sizes in bytes; None: not known."""

    file: str | None = None
    """The file to load, or the folder of safetensors."""
    format: str | None = None
    """A `WeightsFormat`; None: GGUF, or not known."""
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
    embedding_width: int | None = None
    """Numbers in one of its vectors, where it makes vectors instead of text."""

    @property
    def embeds(self) -> bool:
        return self.embedding_width is not None


class FetchState(StrEnum):
    DOWNLOADING = "downloading"
    DONE = "done"
    FAILED = "failed"
    """Given up: what came cannot be served, or is not what the hub promised."""
    GONE = "gone"
    """Removed, and its files too."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """How far the download of a model from a hub has come. Bytes."""

    state: FetchState
    revision: str
    """The commit that was found when it was added: what the hub changes later is not taken."""
    done: int = 0
    total: int = 0
    code: str = ""
    message: str = ""
    """What stands in the way, if anything does."""

    @property
    def words(self) -> str:
        share = 100 * self.done // self.total if self.total else 0
        if self.state is FetchState.DOWNLOADING:
            return f"downloading {share} %" + (f": {self.message}" if self.message else "")
        return self.message


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
    upstream_keys: tuple[str | None, ...] = field(default=(), repr=False)
    """Of `source.upstreams`, in their order."""


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
    fetch: Fetch | None = None
    """None: its weights were here from the beginning, or are an upstream's matter."""

    @property
    def status(self) -> ModelStatus:
        if self.removed_at is not None:
            return ModelStatus.REMOVED
        if self.here:
            return ModelStatus.ACTIVE
        failed = self.fetch is not None and self.fetch.state is FetchState.FAILED
        return ModelStatus.FAILED if failed else ModelStatus.DOWNLOADING

    @property
    def here(self) -> bool:
        """Whether its weights can be loaded."""
        return self.fetch is None or self.fetch.state is FetchState.DONE

    @property
    def may_sleep(self) -> bool:
        """Whether its endpoint begins without a replica, which the first request wakes: it came unasked."""
        return self.builtin and self.facts.embeds

    @property
    def upstream_model(self) -> str:
        """The name the engine knows it by."""
        return self.source.upstream_model or self.name

    def described(self) -> dict[str, Any]:
        """For events and the audit trail: no secret in it."""
        return {"name": self.name, "engine": self.engine.value, "source": self.source.kind.value}
