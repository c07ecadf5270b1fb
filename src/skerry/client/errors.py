"""What can go wrong between a caller and a Skerry: a small tree, each error with one clear line and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class SkerryError(Exception):
    """Base of all errors that this package raises. `suggestion` says what to do, where there is something to do."""

    def __init__(self, detail: str, *, suggestion: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.suggestion = suggestion


class NotConfigured(SkerryError):
    """No such profile, an address that cannot be one, or a credentials file that cannot be used."""


class MissingKey(NotConfigured):
    """There is no API key anywhere."""


class NotReachable(SkerryError):
    """No answer. `sent` tells whether the server may have had the request, and may have acted on it."""

    def __init__(self, detail: str, *, suggestion: str = "", sent: bool = False) -> None:
        super().__init__(detail, suggestion=suggestion)
        self.sent = sent


class BadAnswer(SkerryError):
    """An answer that is not what the API promises: perhaps there is something else at this address."""


class StreamBroken(SkerryError):
    """A stream that ended before its end; what had come until then was handed out."""


class TookTooLong(SkerryError):
    """What was waited for had not come when the time was up. It may still come."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field; `path` is dotted."""

    path: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer, whichever of the two forms it came in (problem+json or OpenAI's)."""

    status: int
    code: str
    title: str
    detail: str
    suggestion: str = ""
    errors: tuple[FieldError, ...] = ()
    param: str | None = None
    """The parameter at fault, on `/v1`."""
    request_id: str | None = None
    retry_after: float | None = None
    """Seconds."""
    raw: Mapping[str, Any] | None = None


class ApiError(SkerryError):
    """The server's refusal. The subclass follows from the status; `code` says exactly what it was."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, suggestion=problem.suggestion)
        self.problem = problem

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def errors(self) -> tuple[FieldError, ...]:
        return self.problem.errors

    @property
    def request_id(self) -> str | None:
        return self.problem.request_id

    @property
    def retry_after(self) -> float | None:
        return self.problem.retry_after


class Malformed(ApiError):
    """400"""


class Unauthorized(ApiError):
    """401: no key, or not a valid one."""


class PaymentRequired(ApiError):
    """402: a budget or the credit is exhausted."""


class Forbidden(ApiError):
    """403: the key does not have the scope."""


class NotFound(ApiError):
    """404, also for what belongs to another project."""


class Conflict(ApiError):
    """409"""


class TooLarge(ApiError):
    """413"""


class Invalid(ApiError):
    """422: see `errors` for the fields."""


class RateLimited(ApiError):
    """429: over the caller's own limit."""


class Unavailable(ApiError):
    """503: the cloud's lack, not the caller's."""


class NoCapacity(ApiError):
    """507: nothing free now."""


BY_STATUS: Mapping[int, type[ApiError]] = {
    400: Malformed,
    401: Unauthorized,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: RateLimited,
    503: Unavailable,
    507: NoCapacity,
}


def refusal(problem: Problem) -> ApiError:
    return BY_STATUS.get(problem.status, ApiError)(problem)
