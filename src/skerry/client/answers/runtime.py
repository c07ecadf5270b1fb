"""What happened, and whether the cloud is well."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from skerry.client.answers.base import Answer


class Event(Answer, frozen=True, kw_only=True):
    id: str
    type: str = ""
    resource: str = ""
    resource_kind: str = ""
    at: datetime | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    position: str = ""
    """Where to go on from, as `after` of a stream."""


class Health(Answer, frozen=True, kw_only=True):
    """`status` in a word; operators see in `reasons` what is missing."""

    status: str = ""

    @property
    def ready(self) -> bool:
        return self.status in ("ready", "ok")

    @property
    def reasons(self) -> Mapping[str, Any]:
        reasons: Mapping[str, Any] = self.raw.get("reasons") or {}
        return reasons
