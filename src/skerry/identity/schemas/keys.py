"""API keys on the wire. A secret is in exactly one answer: the one that made it."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, field_validator

from skerry.identity.keys import LONGEST_GRACE_SECONDS
from skerry.identity.model import ApiKey, KeyLimits, KeyStatus, KeyTerms, Principal, Project, Scope
from skerry.identity.schemas.base import Amount, Currency, Label, ModelName, RateLimitsBody, UtcTime, Wire
from skerry.kernel.money import Money, nano_from_decimal, parse_amount, plain


class MoneyBody(Wire):
    """`{"amount": "12.34", "currency": "EUR"}`: a decimal string, never a float."""

    amount: Amount
    currency: Currency

    def to_money(self) -> Money:
        return Money(parse_amount(self.amount), self.currency)


class BudgetBody(MoneyBody):
    @field_validator("amount")
    @classmethod
    def _fits(cls, amount: str) -> str:
        if nano_from_decimal(parse_amount(amount)) <= 0:
            raise ValueError("a budget must be more than nothing")
        return amount


class LimitsBody(RateLimitsBody):
    """What is not given is not limited."""

    budget: BudgetBody | None = None

    def to_limits(self) -> KeyLimits:
        budget = self.budget.to_money() if self.budget else None
        return KeyLimits(self.requests_per_minute, self.tokens_per_minute, budget, self.concurrent_requests)

    @classmethod
    def of(cls, limits: KeyLimits) -> "LimitsBody":
        budget = limits.budget
        return cls(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrent_requests=limits.concurrent_requests,
            budget=BudgetBody(amount=plain(budget.amount), currency=budget.currency) if budget else None,
        )


Models = Annotated[list[ModelName], Field(min_length=1, max_length=200)]


class KeyBody(Wire):
    name: Label
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    models: Models | None = None
    """Models it may call; without: all that the project may."""
    expires_at: UtcTime | None = None
    limits: LimitsBody | None = None
    service_account: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None

    def to_terms(self) -> KeyTerms:
        return KeyTerms(
            scopes=frozenset(self.scopes),
            models=None if self.models is None else frozenset(self.models),
            expires_at=self.expires_at,
            limits=(self.limits or LimitsBody()).to_limits(),
        )


class KeyChange(Wire):
    """What is not given stays; `null` lifts the restriction. `limits` is replaced as a whole."""

    name: Label | None = None
    models: Models | None = None
    expires_at: UtcTime | None = None
    limits: LimitsBody | None = None

    def to_changes(self) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if "models" in self.model_fields_set:
            changes["models"] = None if self.models is None else frozenset(self.models)
        if "expires_at" in self.model_fields_set:
            changes["expires_at"] = self.expires_at
        if "limits" in self.model_fields_set:
            changes["limits"] = (self.limits or LimitsBody()).to_limits()
        return changes


class RotateBody(Wire):
    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=LONGEST_GRACE_SECONDS)] = 0
    """How long the old secrets go on working."""


class KeyOut(BaseModel):
    id: str
    name: str
    project_id: str
    organization_id: str
    service_account: str | None
    last4: str
    scopes: list[Scope]
    models: list[str] | None
    limits: LimitsBody
    status: KeyStatus
    expires_at: datetime | None
    created_at: datetime
    created_by: str | None
    rotated_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def fields_of(cls, key: ApiKey, now: datetime) -> dict[str, Any]:
        return {
            "id": key.id,
            "name": key.name,
            "project_id": key.project_id,
            "organization_id": key.organization_id,
            "service_account": key.service_account_id,
            "last4": key.last4,
            "scopes": sorted(key.terms.scopes),
            "models": None if key.terms.models is None else sorted(key.terms.models),
            "limits": LimitsBody.of(key.terms.limits),
            "status": key.status(now),
            "expires_at": key.terms.expires_at,
            "created_at": key.created_at,
            "created_by": key.created_by,
            "rotated_at": key.rotated_at,
            "revoked_at": key.revoked_at,
        }

    @classmethod
    def of(cls, key: ApiKey, now: datetime) -> "KeyOut":
        return cls(**cls.fields_of(key, now))


class MintedKeyOut(KeyOut):
    key: str | None
    """The secret, shown this once; null when an idempotent request is answered again."""

    @classmethod
    def minted(cls, key: ApiKey, secret: str, now: datetime) -> "MintedKeyOut":
        return cls(key=secret, **cls.fields_of(key, now))


class WhoamiOut(BaseModel):
    key_id: str
    key_name: str
    scopes: list[Scope]
    operator: bool
    models: list[str] | None
    project: str
    project_id: str
    organization: str
    organization_id: str

    @classmethod
    def of(cls, principal: Principal, project: Project) -> "WhoamiOut":
        return cls(
            key_id=principal.key_id,
            key_name=principal.key_name,
            scopes=sorted(principal.scopes),
            operator=principal.operator,
            models=None if principal.models is None else sorted(principal.models),
            project=project.name,
            project_id=project.id,
            organization=project.organization,
            organization_id=project.organization_id,
        )
