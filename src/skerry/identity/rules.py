"""Decisions of identity: values in, values or refusals out."""

import re
import secrets
from collections.abc import Iterable
from datetime import datetime

from skerry.identity.errors import GrantTooWide, MissingScope, OperatorRequired
from skerry.identity.model import KeyTerms, RateLimits, Scope

SECRET_PREFIX = "sk-"  # noqa: S105
RATES = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")
_SECRET = re.compile(r"sk-[A-Za-z0-9_-]{16,200}")


def new_secret() -> str:
    """`sk-` and 48 characters that carry 288 random bits."""
    return SECRET_PREFIX + secrets.token_urlsafe(36)


def looks_like_secret(text: str) -> bool:
    return _SECRET.fullmatch(text) is not None


def bearer_token(header: str | None) -> str | None:
    """The token of an `Authorization` header; None where there is none."""
    if not header:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def has_scopes(held: frozenset[Scope], needed: Iterable[Scope]) -> bool:
    return Scope.OPERATOR in held or set(needed) <= held


def require_scopes(held: frozenset[Scope], needed: Iterable[Scope]) -> None:
    """Raises MissingScope that names the first scope that lacks."""
    for scope in needed:
        if not has_scopes(held, (scope,)):
            raise MissingScope(
                f"this key lacks the scope {scope}",
                suggestion=f"Use a key with the scope {scope}; this one has {', '.join(sorted(held)) or 'none'}.",
                extra={"scope": str(scope)},
            )


def require_grantable(own: KeyTerms, wanted: KeyTerms) -> None:
    """A key hands out no more than it has: scopes, models, life and limits. Raises GrantTooWide.

    Otherwise a leaked key with `write` would be worth more than itself.
    """
    if Scope.OPERATOR in own.scopes:
        return
    if Scope.OPERATOR in wanted.scopes:
        raise OperatorRequired("only an operator key can grant the scope operator")
    if missing := wanted.scopes - own.scopes:
        raise _too_wide(f"the scope {min(missing)}", "scopes")
    if own.models is not None and (wanted.models is None or not wanted.models <= own.models):
        raise _too_wide("models it may not call itself", "models")
    if own.expires_at is not None and (wanted.expires_at is None or wanted.expires_at > own.expires_at):
        raise _too_wide("a life longer than its own", "expires_at")
    for name in RATES:
        mine, theirs = getattr(own.limits, name), getattr(wanted.limits, name)
        if mine is not None and (theirs is None or theirs > mine):
            raise _too_wide(f"more than its own {name}", f"limits.{name}")
    if own.limits.budget is not None:
        raise GrantTooWide(
            "a key with a budget cannot make or take over keys, since each would have a budget of its own",
            suggestion="Use a key without a budget to manage keys.",
        )


def require_tighter(now: RateLimits, wanted: RateLimits) -> None:
    """A project's own key may lower the project's limits, never raise or lift one. Raises GrantTooWide."""
    for name in RATES:
        have, want = getattr(now, name), getattr(wanted, name)
        if have is not None and (want is None or want > have):
            raise GrantTooWide(
                f"a key of this project can lower its {name}, not raise it",
                suggestion="Ask for it with a key of the organization's home project, or ask your operator.",
                extra={"field": f"limits.{name}"},
            )


def _too_wide(what: str, field: str) -> GrantTooWide:
    return GrantTooWide(
        f"this key cannot grant {what}",
        suggestion="A key grants at most what it has itself; use a key with wider rights.",
        extra={"field": field},
    )


def earliest(*times: datetime | None) -> datetime | None:
    """The first of the times that are given."""
    return min((t for t in times if t is not None), default=None)
