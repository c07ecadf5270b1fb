"""What answers have in common: unknown fields are kept in `raw`, and those a server leaves out have defaults."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

A = TypeVar("A", bound="Answer")


class Answer(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A frozen answer of the API. Times are aware datetimes, money is Decimal, quantities are ints in base units."""

    @property
    def raw(self) -> Mapping[str, Any]:
        """The JSON object as the server sent it."""
        raw: Mapping[str, Any] = self.__dict__.get("raw_answer", {})
        return raw

    @property
    def actions(self) -> Mapping[str, Any]:
        """`{verb: {available, why_not}}` of what a resource can do now."""
        actions: Mapping[str, Any] = self.raw.get("actions") or {}
        return actions


class Money(msgspec.Struct, frozen=True):
    amount: Decimal
    currency: str


class StatusReason(msgspec.Struct, frozen=True, kw_only=True):
    code: str = ""
    message: str = ""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A thing that another refers to."""

    id: str = ""
    name: str = ""


def reader(kind: type[A]) -> Callable[[Any], A]:
    """Reads one object as `kind`. Raises msgspec.ValidationError where it is not one."""

    def read(answer: Any) -> A:
        value = msgspec.convert(answer, kind)
        value.__dict__["raw_answer"] = answer
        return value

    return read
