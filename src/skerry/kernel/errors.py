"""The tree of errors a caller can see. Each becomes problem+json or an OpenAI error in one place (`server/errors.py`).

Subclasses fix `status` and `code`; an instance carries the words. `detail` says what happened, `suggestion` what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field; `path` is dotted, as in `limits.budget.amount`."""

    path: str
    code: str
    message: str


class SkerryError(Exception):
    """Base of all errors that are answers, not accidents."""

    status: ClassVar[int] = 500
    code: str = "internal_error"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(
        self,
        detail: str,
        *,
        suggestion: str = "",
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.suggestion = suggestion
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extra = dict(extra or {})
        if code is not None:
            self.code = code


class Malformed(SkerryError):
    status, code, title = 400, "malformed", "The request cannot be read"


class Unauthorized(SkerryError):
    status, code, title = 401, "unauthorized", "No valid key"


class PaymentRequired(SkerryError):
    status, code, title = 402, "budget_exhausted", "Budget or credit is exhausted"


class Forbidden(SkerryError):
    status, code, title = 403, "forbidden", "Not allowed"


class NotFound(SkerryError):
    status, code, title = 404, "not_found", "There is no such thing"


class Conflict(SkerryError):
    status, code, title = 409, "conflict", "It conflicts with what is there"


class TooLarge(SkerryError):
    status, code, title = 413, "too_large", "Too large"


class Invalid(SkerryError):
    status, code, title = 422, "invalid", "Well-formed, but not valid"


class RateLimited(SkerryError):
    status, code, title = 429, "rate_limited", "Over your own limit"


class Unavailable(SkerryError):
    """Our own lack: always carries `Retry-After`."""

    status, code, title = 503, "unavailable", "Not available now"


class NoCapacity(SkerryError):
    status, code, title = 507, "no_capacity", "Nothing free now"
