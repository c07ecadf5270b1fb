"""Contracts and one-off charges on the wire (API §9)."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, PlainSerializer

from skerry.billing.model import CancellationStep, CancellationTerms, ChargeKind, ContractTerms, OneOff
from skerry.billing.schemas.fields import MoneyField, Name, Time, Wire
from skerry.billing.schemas.prices import PRICES_MAX, PriceRow
from skerry.kernel.money import Money
from skerry.kernel.paging import Page

DAYS_MAX = 3660
STEPS_MAX = 20
Days = Annotated[int, Field(ge=0, le=DAYS_MAX)]


Part = Annotated[Decimal, Field(ge=0, le=1, decimal_places=6), PlainSerializer(float, return_type=float)]
"""A share, never money: a JSON number."""


class CancellationStepField(Wire):
    """Who cancels at least `days_before` days before the start owes `share` (0 to 1) of what is not used."""

    days_before: Days
    share: Part


class CancellationField(Wire):
    """Free until `free_days_before` days before the start; then steps with falling days, the last of them 0."""

    free_days_before: Days
    steps: list[CancellationStepField] = Field(min_length=1, max_length=STEPS_MAX)

    @classmethod
    def of(cls, terms: CancellationTerms) -> "CancellationField":
        steps = [
            CancellationStepField.model_construct(days_before=own.days_before, share=own.share) for own in terms.steps
        ]
        return cls.model_construct(free_days_before=terms.free_days_before, steps=steps)

    def to_terms(self) -> CancellationTerms:
        steps = (CancellationStep(step.days_before, step.share) for step in self.steps)
        return CancellationTerms(self.free_days_before, tuple(steps))


class ContractIn(Wire):
    """Rows are as in a price book, and come before its; where none matches, the book's apply.

    `starts_at` left out: now. `ends_at` left out: no end. `credit_limit` is a month's, while the contract is in force.
    """

    organization: Name
    name: Name
    starts_at: Time | None = None
    ends_at: Time | None = None
    prices: list[PriceRow] = Field(default_factory=list, max_length=PRICES_MAX)
    cancellation: CancellationField | None = Field(default=None, description="Left out: the operator's usual terms.")
    credit_limit: MoneyField | None = None


class ContractOut(Wire):
    id: str
    organization: str
    name: str
    currency: str
    starts_at: Time
    ends_at: Time | None
    prices: list[PriceRow]
    cancellation: CancellationField
    credit_limit: MoneyField | None
    created_at: Time

    @classmethod
    def of(cls, terms: ContractTerms) -> "ContractOut":
        credit = terms.credit_limit_nano
        return cls.model_construct(
            id=terms.id,
            organization=terms.organization,
            name=terms.name,
            currency=terms.currency,
            starts_at=terms.starts_at,
            ends_at=terms.ends_at,
            prices=[PriceRow.of(price) for price in terms.prices],
            cancellation=CancellationField.of(terms.cancellation),
            credit_limit=MoneyField.of(credit, terms.currency) if credit is not None else None,
            created_at=terms.created_at,
        )


class ContractPage(Wire):
    data: list[ContractOut]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[ContractTerms]) -> "ContractPage":
        found = [ContractOut.of(terms) for terms in page.data]
        return cls.model_construct(data=found, has_more=page.has_more, next_cursor=page.next_cursor)


class ChargeOut(Wire):
    """A charge that no meter brings. `resource` is what it is for, such as a reservation."""

    id: str
    kind: ChargeKind
    resource: str
    amount: MoneyField
    at: Time
    reason: str

    @classmethod
    def of(cls, charge: OneOff) -> "ChargeOut":
        money = Money(charge.amount, charge.currency)
        return cls.model_construct(
            id=charge.id,
            kind=charge.kind,
            resource=charge.resource,
            amount=MoneyField.model_construct(amount=money.amount, currency=money.currency),
            at=charge.at,
            reason=charge.reason,
        )


class ChargePage(Wire):
    data: list[ChargeOut]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[OneOff]) -> "ChargePage":
        found = [ChargeOut.of(charge) for charge in page.data]
        return cls.model_construct(data=found, has_more=page.has_more, next_cursor=page.next_cursor)
