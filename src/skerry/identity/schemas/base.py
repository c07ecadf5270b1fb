"""Fields and shapes that the wire forms of identity share."""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from skerry.identity.model import RateLimits
from skerry.kernel.clock import require_utc
from skerry.kernel.money import parse_amount
from skerry.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, Page, PageRequest

T = TypeVar("T")


def _utc(value: datetime) -> datetime:
    try:
        return require_utc(value)
    except OverflowError as error:
        raise ValueError("it lies outside the years 1 to 9999") from error


def _name(text: str) -> str:
    if text.startswith(("org_", "proj_")):
        raise ValueError("a name must not look like an id")
    return _printable(text)


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("it must be printable, without spaces around it")
    return text


def _decimal(text: str) -> str:
    parse_amount(text)
    return text


Label = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_printable)]
OrganizationName = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^/]*$"), AfterValidator(_name)
]
ProjectName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"), AfterValidator(_name)]
Email = Annotated[
    str,
    StringConstraints(max_length=254, to_lower=True, pattern=r"^[^@\s]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$"),
    AfterValidator(_printable),
]
Jurisdiction = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,3}$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]
UtcTime = Annotated[AwareDatetime, AfterValidator(_utc)]
Amount = Annotated[str, StringConstraints(max_length=40), AfterValidator(_decimal)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1


class Wire(BaseModel):
    """Unknown fields are refused: a misspelt limit must not be silence."""

    model_config = ConfigDict(extra="forbid")


class RateLimitsBody(Wire):
    """What is not given is not limited."""

    requests_per_minute: Annotated[int, Field(strict=True, ge=1, le=INT32_MAX)] | None = None
    tokens_per_minute: Annotated[int, Field(strict=True, ge=1, le=INT64_MAX)] | None = None
    concurrent_requests: Annotated[int, Field(strict=True, ge=1, le=INT32_MAX)] | None = None
    """Requests under way at once: waiting, or being answered."""

    def to_rates(self) -> RateLimits:
        return RateLimits(self.requests_per_minute, self.tokens_per_minute, self.concurrent_requests)

    @classmethod
    def of_rates(cls, limits: RateLimits) -> "RateLimitsBody":
        return cls(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrent_requests=limits.concurrent_requests,
        )


class Listing(BaseModel, Generic[T]):
    data: list[T]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[T]) -> "Listing[T]":
        return cls(data=list(page.data), has_more=page.has_more, next_cursor=page.next_cursor)


def paging(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    after: Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")] = None,
) -> PageRequest:
    return PageRequest.parse(limit, after)


Paging = Annotated[PageRequest, Depends(paging)]
