"""Prices and budgets on the wire (API §2, §9)."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic import StringConstraints as Text

from skerry.billing.model import Account, AccountKind, Budget, BudgetWindow, ChargeBy, Lease, Price, PriceBook
from skerry.kernel.clock import require_utc, rfc3339
from skerry.kernel.money import Money, decimal_from_nano, parse_amount, plain
from skerry.kernel.paging import Page
from skerry.metering.model import Meter

UNIT_QUANTITY_MAX = 10**15
PRICES_MAX = 20_000


def _decimal(value: object) -> Decimal:
    if not isinstance(value, str):
        raise ValueError('amounts are decimal strings, such as "12.34"')
    amount = parse_amount(value)
    if amount < 0:
        raise ValueError("it cannot be negative")
    return amount


def _utc(value: datetime) -> datetime:
    try:
        return require_utc(value)
    except OverflowError as error:
        raise ValueError("it lies outside the years 1 to 9999") from error


def _clean(value: str) -> str:
    if "\x00" in value:
        raise ValueError("it must not have NUL in it")
    return value


Amount = Annotated[
    Decimal,
    BeforeValidator(
        _decimal, json_schema_input_type=Annotated[str, Text(max_length=40, pattern=r"^[0-9]+(\.[0-9]+)?$")]
    ),
    PlainSerializer(plain, return_type=str),
]
Name = Annotated[str, Text(min_length=1, max_length=200), AfterValidator(_clean)]
Currency = Annotated[str, Text(pattern=r"^[A-Z]{3}$")]
Time = Annotated[AwareDatetime, AfterValidator(_utc), PlainSerializer(rfc3339, return_type=str)]
Share = Annotated[Decimal, PlainSerializer(float, return_type=float)]
"""A share of a limit, never money: a JSON number."""


class Wire(BaseModel):
    """Unknown fields are refused: a misspelt limit must not be silence."""

    model_config = ConfigDict(extra="forbid")


class MoneyField(Wire):
    amount: Amount
    currency: Currency

    @classmethod
    def of(cls, nano: int, currency: str) -> "MoneyField":
        return cls.model_construct(amount=decimal_from_nano(nano), currency=currency)

    def to_money(self) -> Money:
        return Money(self.amount, self.currency)


class PriceRow(Wire):
    """`unit_price` for each `unit_quantity` base units, where all named dimensions match; left out: any."""

    meter: Meter
    model: Name | None = None
    sku: Name | None = None
    site: Name | None = None
    capacity_class: Name | None = None
    charge_by: ChargeBy | None = None
    unit_quantity: int = Field(ge=1, le=UNIT_QUANTITY_MAX)
    unit_price: Amount
    tiers: list[Any] | None = Field(default=None, max_length=0, description="Not there yet: null or empty.")

    @classmethod
    def of(cls, price: Price) -> "PriceRow":
        return cls.model_construct(
            meter=price.meter,
            model=price.model,
            sku=price.sku,
            site=price.site,
            capacity_class=price.capacity_class,
            charge_by=ChargeBy(price.charge_by) if price.charge_by else None,
            unit_quantity=price.unit_quantity,
            unit_price=price.unit_price,
            tiers=None,
        )

    def to_price(self) -> Price:
        return Price(
            meter=self.meter,
            unit_quantity=self.unit_quantity,
            unit_price=self.unit_price,
            model=self.model,
            sku=self.sku,
            site=self.site,
            capacity_class=self.capacity_class,
            charge_by=self.charge_by.value if self.charge_by else None,
        )


class PriceBookIn(Wire):
    """The body of GET /prices; `version` is given by the server, and is ignored here."""

    version: int | None = None
    currency: Currency
    effective_from: Time | None = None
    prices: list[PriceRow] = Field(min_length=1, max_length=PRICES_MAX)


class PriceBookOut(Wire):
    version: int
    currency: Currency
    effective_from: Time
    prices: list[PriceRow]

    @classmethod
    def of(cls, book: PriceBook) -> "PriceBookOut":
        return cls.model_construct(
            version=book.version,
            currency=book.currency,
            effective_from=book.effective_from,
            prices=[PriceRow.of(price) for price in book.prices],
        )


class BudgetIn(Wire):
    """`target` has one of project, key and organization; `alert_at` holds shares of the limit, such as 0.8."""

    target: dict[Annotated[str, Text(max_length=20)], Name] = Field(min_length=1, max_length=1)
    limit: MoneyField
    window: BudgetWindow
    alert_at: list[Decimal] | None = None


class BudgetChange(Wire):
    """What is left out stays as it is."""

    limit: MoneyField | None = None
    alert_at: list[Decimal] | None = None


class BudgetOut(Wire):
    """`spent` and `pending` (set aside for gateways, not yet booked) of `limit` in the present period.

    `period_end` is null where the window is `total`.
    """

    id: str
    kind: AccountKind
    target: dict[str, str]
    limit: MoneyField
    window: BudgetWindow
    alert_at: list[Share]
    spent: MoneyField
    pending: MoneyField
    remaining: MoneyField
    period_start: Time
    period_end: Time | None
    created_at: Time

    @classmethod
    def of(cls, budget: Budget) -> "BudgetOut":
        account, balance = budget.account, budget.balance
        total = account.window is BudgetWindow.TOTAL
        return cls.model_construct(
            id=account.id,
            kind=account.kind,
            target={account.target.kind.value: budget.target_name},
            limit=MoneyField.of(account.limit_nano, account.currency),
            window=account.window,
            alert_at=list(account.alert_at),
            spent=MoneyField.of(balance.spent_nano, account.currency),
            pending=MoneyField.of(balance.pending_nano, account.currency),
            remaining=MoneyField.of(budget.remaining_nano, account.currency),
            period_start=account.created_at if total else balance.period.start,
            period_end=None if total else balance.period.end,
            created_at=account.created_at,
        )


class BudgetPage(Wire):
    data: list[BudgetOut]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Budget]) -> "BudgetPage":
        found = [BudgetOut.of(budget) for budget in page.data]
        return cls.model_construct(data=found, has_more=page.has_more, next_cursor=page.next_cursor)


class LeaseOut(Wire):
    """A part of a balance that a gateway holds. An operator may release it once it has expired."""

    id: str
    amount: MoneyField
    spent: MoneyField
    expires_at: Time

    @classmethod
    def of(cls, lease: Lease, account: Account) -> "LeaseOut":
        return cls.model_construct(
            id=lease.id,
            amount=MoneyField.of(lease.amount_nano, account.currency),
            spent=MoneyField.of(lease.spent_nano, account.currency),
            expires_at=lease.expires_at,
        )


class LeaseList(Wire):
    data: list[LeaseOut]
    has_more: bool = False
    next_cursor: str | None = None
