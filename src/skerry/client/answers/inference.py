"""Models and where they are served."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from skerry.client.answers.base import Answer, StatusReason


class Model(Answer, frozen=True, kw_only=True):
    id: str
    name: str = ""
    engine: str = ""
    status: str = ""
    source: dict[str, Any] | None = None
    context_length: int | None = None
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


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    id: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    node: str | None = None
    workload_id: str | None = None


class Endpoint(Answer, frozen=True, kw_only=True):
    """`status` is one of stopped, starting, ready, degraded, failed."""

    id: str
    name: str = ""
    model: str = ""
    kind: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    min_replicas: int = 0
    max_replicas: int = 0
    target_concurrency: int | None = None
    idle_timeout_seconds: int | None = None
    capacity_class: str = ""
    replicas: tuple[Replica, ...] = ()
    created_at: datetime | None = None


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
