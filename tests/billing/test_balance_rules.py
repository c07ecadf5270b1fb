"""Decisions of the ledger, and what is accepted as a budget."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.billing.model import Account, AccountKind, Balance, BudgetWindow, Period, Target, TargetKind
from skerry.billing.rules import balances, budgets
from skerry.kernel.errors import Invalid
from skerry.kernel.ids import ProjectId
from skerry.kernel.money import Money

NOW = datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
nano = st.integers(0, 10**15)


def _account(limit: int, *alerts: str) -> Account:
    project = ProjectId("proj_1")
    return Account(
        "bud_1", AccountKind.BUDGET, Target(TargetKind.PROJECT, project), project, None, BudgetWindow.MONTH, limit,
        "USD", tuple(map(Decimal, alerts)), NOW,
    )  # fmt: skip


def _balance(committed: int, spent: int = 0, sent: tuple[Decimal, ...] = ()) -> Balance:
    return Balance(Period(NOW, NOW), committed, spent, sent)


@pytest.mark.parametrize("window", list(BudgetWindow))
def test_a_moment_lies_in_its_period(window: BudgetWindow) -> None:
    period = balances.period_of(window, NOW)
    assert period.start <= NOW < period.end
    assert balances.period_of(window, period.start) == period
    if window is not BudgetWindow.TOTAL:
        assert period.end == datetime(2027, 1, 1, tzinfo=UTC)


@given(nano, nano, nano, nano)
def test_a_grant_covers_the_request_and_never_exceeds_what_is_left(
    limit: int, committed: int, minimum: int, wanted: int
) -> None:
    amount = balances.grant(_account(limit), _balance(committed), minimum, wanted)
    left = limit - committed
    if amount is None:
        assert left < max(minimum, 1)
    else:
        assert max(minimum, 1) <= amount <= left
        assert amount <= max(wanted, minimum, 1)


@given(st.integers(1, 10**6), st.integers(10**6, 10**12))
def test_as_the_balance_ends_grants_shrink_to_one_request(ceiling: int, limit: int) -> None:
    committed, last = 0, limit
    while (amount := balances.grant(_account(limit), _balance(committed), ceiling, limit)) is not None:
        assert amount <= last
        committed, last = committed + amount, amount
    assert limit - committed < ceiling
    assert last < 5 * ceiling


def test_each_share_is_told_once() -> None:
    account = _account(1000, "0.5", "0.8", "1")
    half, most = Decimal("0.5"), Decimal("0.8")
    assert balances.alerts_due(account, _balance(0, 499)) == ()
    assert balances.alerts_due(account, _balance(0, 800)) == (half, most)
    assert balances.alerts_due(account, _balance(0, 999, (half, most))) == ()
    assert balances.alerts_due(account, _balance(0, 5000, (half, most))) == (Decimal(1),)


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("-1", "USD", "negative"),
        ("1", "EUR", "other_currency"),
        ("0.0000000001", "USD", "out_of_range"),
        ("99999999999", "USD", "out_of_range"),
    ],
)
def test_what_cannot_be_a_limit_is_refused(amount: str, currency: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        budgets.limit_to_nano(Money(Decimal(amount), currency), "USD", "limit")
    assert refused.value.code == code


def test_shares_are_sorted_and_each_is_there_once() -> None:
    assert budgets.checked_shares([Decimal("1.0"), Decimal("0.80"), Decimal("0.8")]) == (Decimal("0.8"), Decimal(1))


@pytest.mark.parametrize("share", ["0", "-0.5", "1.01", "80", "NaN", "Infinity"])
def test_what_is_no_share_is_refused(share: str) -> None:
    with pytest.raises(Invalid) as refused:
        budgets.checked_shares([Decimal("0.5"), Decimal(share)])
    assert refused.value.errors[0].path == "alert_at.1"


def test_costs_are_rounded_up_to_nano_units() -> None:
    assert budgets.nano_ceil(Decimal("0.0000000010000000001")) == 2
    assert budgets.nano_ceil(Decimal(3)) == 3 * 10**9
