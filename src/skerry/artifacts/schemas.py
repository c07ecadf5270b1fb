"""The catalogue on the wire (API §7)."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    model_validator,
)

from skerry.artifacts import rules
from skerry.artifacts.model import (
    EngineKind,
    Model,
    ModelPrices,
    ModelSource,
    ModelStatus,
    NewModel,
    SourceKind,
    Upstream,
)
from skerry.kernel.clock import rfc3339
from skerry.kernel.money import parse_amount
from skerry.runtime.events import Event

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("it must be printable, without spaces around it")
    return text


def _price(text: str) -> str:
    amount = parse_amount(text)
    if amount < 0:
        raise ValueError("a price is not negative")
    digits = amount.as_tuple().exponent
    if amount >= 10**9 or (isinstance(digits, int) and digits < -12):
        raise ValueError("a price is below 10⁹, with at most 12 decimals")
    return text


Label = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_printable)]
Price = Annotated[str, StringConstraints(min_length=1, max_length=40), AfterValidator(_price)]


class Wire(BaseModel):
    """Unknown fields are refused: a misspelt one must not be silence."""

    model_config = ConfigDict(extra="forbid")


class UpstreamIn(Wire):
    url: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    key: SecretStr | None = Field(default=None, description="Never shown again.")
    weight: Annotated[int, Field(ge=0, le=rules.MAX_WEIGHT)] = 100


class SourceIn(Wire):
    """Exactly one of `path`, `hub`, `upstream` and `upstreams`."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    hub: Label | None = None
    upstream: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    upstreams: Annotated[list[UpstreamIn], Field(min_length=1, max_length=rules.MAX_UPSTREAMS)] | None = Field(
        default=None, description="Several servers that share the requests by weight: 5 beside 95 is a canary."
    )
    upstream_key: SecretStr | None = Field(default=None, description="Never shown again.")
    upstream_model: Label | None = Field(default=None, description="What the upstream calls it; default: the name.")

    @model_validator(mode="after")
    def _one(self) -> "SourceIn":
        if sum(place is not None for place in (self.path, self.hub, self.upstream, self.upstreams)) != 1:
            raise ValueError("give exactly one of path, hub, upstream and upstreams")
        if self.upstream is None and self.upstream_key is not None:
            raise ValueError("upstream_key belongs to upstream; each of upstreams has its own key")
        if self.upstream is None and self.upstreams is None and self.upstream_model is not None:
            raise ValueError("upstream_model belongs to upstream and upstreams")
        return self

    def to_source(self) -> ModelSource:
        if self.path is not None:
            return ModelSource(SourceKind.PATH, self.path)
        if self.hub is not None:
            return ModelSource(SourceKind.HUB, self.hub)
        if self.upstreams is not None:
            upstreams = tuple(Upstream(one.url, one.weight) for one in self.upstreams)
            return ModelSource(SourceKind.UPSTREAM, upstreams[0].url, self.upstream_model, upstreams=upstreams)
        assert self.upstream is not None
        return ModelSource(SourceKind.UPSTREAM, self.upstream, self.upstream_model)


class PriceIn(Wire):
    """Decimal strings per million tokens."""

    prompt: Price | None = None
    cached: Price | None = None
    completion: Price | None = None

    def to_prices(self) -> ModelPrices:
        return ModelPrices(_decimal(self.prompt), _decimal(self.cached), _decimal(self.completion))


class ModelIn(Wire):
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    engine: EngineKind | None = Field(default=None, description="Default: what fits the source.")
    source: SourceIn
    context_length: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    license: Label | None = None
    price: PriceIn | None = None

    def to_model(self) -> NewModel:
        key = self.source.upstream_key
        return NewModel(
            name=self.name,
            source=self.source.to_source(),
            engine=self.engine,
            context_length=self.context_length,
            license=self.license,
            prices=self.price.to_prices() if self.price else ModelPrices(),
            upstream_key=key.get_secret_value() if key is not None else None,
            upstream_keys=tuple(
                one.key.get_secret_value() if one.key is not None else None for one in self.source.upstreams or ()
            ),
        )


class UpstreamOut(BaseModel):
    url: str
    key_set: bool
    weight: int


class SourceOut(BaseModel):
    """Where it comes from; of paths and addresses customers see the kind alone."""

    kind: SourceKind
    path: str | None = None
    hub: str | None = None
    upstream: str | None = None
    upstream_model: str | None = None
    upstream_key_set: bool | None = None
    upstreams: list[UpstreamOut] | None = None

    @classmethod
    def of(cls, source: ModelSource, *, operator: bool) -> "SourceOut":
        if not operator:
            return cls(kind=source.kind)
        shown: dict[str, Any] = {source.kind.value: source.location}
        if source.kind is SourceKind.UPSTREAM:
            servers = [UpstreamOut(url=one.url, key_set=one.has_key, weight=one.weight) for one in source.servers]
            shown |= {"upstream_model": source.upstream_model, "upstream_key_set": source.has_key}
            shown |= {"upstreams": servers}
        return cls(kind=source.kind, **shown)


class StatusReason(BaseModel):
    code: str
    message: str

    @classmethod
    def of(cls, model: Model) -> "StatusReason | None":
        """None for a model that is simply there."""
        fetch = model.fetch
        if fetch is None or model.here or model.removed_at is not None:
            return None
        return cls(code=fetch.code or fetch.state.value, message=fetch.words)


class ModelOut(BaseModel):
    id: str
    name: str
    engine: EngineKind
    status: ModelStatus
    status_reason: StatusReason | None = None
    source: SourceOut
    revision: str | None = None
    embedding_width: int | None = None
    context_length: int
    license: str | None
    architecture: str | None
    parameters: int | None
    size_bytes: int | None
    created_at: Time
    removed_at: Time | None

    @classmethod
    def of(cls, model: Model, *, operator: bool) -> "ModelOut":
        return cls(
            id=model.id,
            name=model.name,
            engine=model.engine,
            status=model.status,
            status_reason=StatusReason.of(model),
            revision=model.fetch.revision if model.fetch else None,
            embedding_width=model.facts.embedding_width,
            source=SourceOut.of(model.source, operator=operator),
            context_length=model.context_length,
            license=model.license,
            architecture=model.facts.architecture,
            parameters=model.facts.parameters,
            size_bytes=model.facts.file_bytes,
            created_at=model.created_at,
            removed_at=model.removed_at,
        )


class EventOut(BaseModel):
    """One entry of a timeline."""

    id: str
    at: Time
    type: str
    resource: str
    resource_kind: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> "EventOut":
        return cls(
            id=event.id,
            at=event.at,
            type=event.type,
            resource=event.resource,
            resource_kind=event.resource_kind,
            data=dict(event.data),
        )


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else parse_amount(text)
