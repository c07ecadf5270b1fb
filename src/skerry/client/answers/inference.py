"""Models and where they are served."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from skerry.client.answers.base import Answer, Money, StatusReason


class Model(Answer, frozen=True, kw_only=True):
    """`status` is one of active, downloading, failed, removed."""

    id: str
    name: str = ""
    engine: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    source: dict[str, Any] | None = None
    revision: str | None = None
    context_length: int | None = None
    embedding_width: int | None = None
    license: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    size_bytes: int | None = None
    created_at: datetime | None = None


class CallableModel(Answer, frozen=True, kw_only=True):
    """A row of `/v1/models`: `id` is the name to call it by."""

    id: str
    created: int = 0
    owned_by: str = ""
    tasks: tuple[str, ...] = ("chat",)
    """What it answers: `chat`, `completion`, `embedding`."""


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """`in_flight`: requests it had when it was last asked; None where it is not known, or not told."""

    id: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    slots: int = 0
    in_flight: int | None = None
    weight: int = 100
    version: int = 1
    node: str | None = None
    workload_id: str | None = None
    cold_start_ms: int | None = None
    ready_at: datetime | None = None


class Endpoint(Answer, frozen=True, kw_only=True):
    """`status` is one of stopped, starting, ready, degraded, failed."""

    id: str
    name: str = ""
    model: str = ""
    next_model: str | None = None
    kind: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    min_replicas: int = 0
    max_replicas: int = 0
    wanted_replicas: int = 0
    ready_replicas: int = 0
    target_concurrency: int | None = None
    idle_timeout_seconds: int | None = None
    queue_seconds: int | None = None
    capacity_class: str = ""
    charge_by: str = ""
    accelerators: int = 0
    sku: str | None = None
    policy: str = ""
    version: int = 1
    parked_at: datetime | None = None
    replicas: tuple[Replica, ...] = ()
    created_at: datetime | None = None


class EndpointEstimate(Answer, frozen=True, kw_only=True):
    """By the hour: of one replica, of the fewest and of the most. Nothing where requests are what costs."""

    charge_by: str
    replica_hour: Money
    min_hour: Money
    max_hour: Money
    sku: str | None = None
    accelerators: int = 0


class ColdStart(msgspec.Struct, frozen=True, kw_only=True):
    """How long a replica took to become ready, and what with. Milliseconds."""

    replica: str = ""
    ready_at: datetime | None = None
    cold_start_ms: int = 0
    parts_ms: dict[str, int] = msgspec.field(default_factory=dict)


class Load(Answer, frozen=True, kw_only=True):
    """What happens at an endpoint now. `first_token_ms`: the median of the last minute, 0 where there is none."""

    endpoint: str
    name: str = ""
    status: str = ""
    gateways: int = 0
    reported_at: datetime | None = None
    in_flight: int = 0
    waiting: int = 0
    batch_waiting: int = 0
    longest_wait_seconds: float = 0.0
    requests_per_minute: float = 0.0
    tokens_per_second: float = 0.0
    first_token_ms: float = 0.0
    wanted_replicas: int = 0
    ready_replicas: int = 0
    scale_reason: str | None = None
    cold_starts: tuple[ColdStart, ...] = ()


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one answer; `prompt` includes the cached ones, as OpenAI counts."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> "TokenUsage":
        details = usage.get("prompt_tokens_details") or {}
        return cls(
            prompt=usage.get("prompt_tokens") or 0,
            cached=details.get("cached_tokens") or 0,
            completion=usage.get("completion_tokens") or 0,
        )
