"""What a key may grant, and how its scopes are read."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from skerry.identity import rules
from skerry.identity.errors import GrantTooWide, MissingScope, OperatorRequired
from skerry.identity.model import KeyLimits, KeyTerms, Scope
from skerry.kernel.money import Money

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READ, WRITE, OPERATOR = Scope.READ, Scope.WRITE, Scope.OPERATOR


def terms(*scopes, **rest):
    return KeyTerms(frozenset(scopes), **rest)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        (terms(READ), terms(READ)),
        (terms(READ, WRITE), terms(READ)),
        (terms(OPERATOR), terms(READ, WRITE, OPERATOR)),
        (terms(READ), terms(READ, models=frozenset({"a"}), expires_at=NOW)),
        (terms(READ, models=frozenset({"a", "b"})), terms(READ, models=frozenset({"a"}))),
        (terms(READ, expires_at=NOW), terms(READ, expires_at=NOW)),
        (terms(READ, limits=KeyLimits(5, 5)), terms(READ, limits=KeyLimits(5, 4))),
    ],
)
def test_a_key_grants_what_it_has(own, wanted):
    rules.require_grantable(own, wanted)


@pytest.mark.parametrize(
    ("own", "wanted", "field"),
    [
        (terms(READ), terms(READ, WRITE), "scopes"),
        (terms(READ, models=frozenset({"a"})), terms(READ), "models"),
        (terms(READ, models=frozenset({"a"})), terms(READ, models=frozenset({"a", "b"})), "models"),
        (terms(READ, expires_at=NOW), terms(READ), "expires_at"),
        (terms(READ, expires_at=NOW), terms(READ, expires_at=NOW + timedelta(seconds=1)), "expires_at"),
        (terms(READ, limits=KeyLimits(5)), terms(READ), "limits.requests_per_minute"),
        (terms(READ, limits=KeyLimits(5)), terms(READ, limits=KeyLimits(6)), "limits.requests_per_minute"),
        (terms(READ, limits=KeyLimits(None, 5)), terms(READ, limits=KeyLimits(5)), "limits.tokens_per_minute"),
        (
            terms(READ, limits=KeyLimits(concurrent_requests=2)),
            terms(READ, limits=KeyLimits(concurrent_requests=3)),
            "limits.concurrent_requests",
        ),
    ],
)
def test_a_key_grants_no_more_than_it_has(own, wanted, field):
    with pytest.raises(GrantTooWide) as refusal:
        rules.require_grantable(own, wanted)
    assert refusal.value.extra["field"] == field


def test_nobody_but_an_operator_grants_operator():
    with pytest.raises(OperatorRequired):
        rules.require_grantable(terms(READ, WRITE), terms(OPERATOR))


def test_a_key_with_a_budget_grants_nothing():
    with pytest.raises(GrantTooWide):
        rules.require_grantable(terms(READ, limits=KeyLimits(budget=Money(Decimal(1), "EUR"))), terms(READ))


def test_operator_implies_all_scopes():
    rules.require_scopes(frozenset({OPERATOR}), tuple(Scope))


def test_a_missing_scope_is_named():
    with pytest.raises(MissingScope) as refusal:
        rules.require_scopes(frozenset({READ}), (READ, WRITE))
    assert "write" in refusal.value.detail and refusal.value.extra == {"scope": "write"}


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Bearer sk-abc", "sk-abc"),
        ("bearer   sk-abc ", "sk-abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic sk-abc", None),
        ("sk-abc", None),
    ],
)
def test_bearer_tokens_are_read(header, token):
    assert rules.bearer_token(header) == token


def test_secrets_have_288_bits_and_are_never_the_same():
    made = {rules.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(rules.looks_like_secret(secret) and len(secret) == 51 for secret in made)
