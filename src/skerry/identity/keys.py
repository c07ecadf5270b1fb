"""API keys: making, changing, rotating and revoking them, and telling whose a secret is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from skerry.db.database import Database, Tx
from skerry.db.notify import KEYS, notify
from skerry.identity import rules
from skerry.identity.errors import ExpiredKey, KeyNotActive, MissingKey, OperatorRequired, RevokedKey, UnknownKey
from skerry.identity.model import (
    ApiKey,
    KeyRecord,
    KeyStatus,
    KeyTerms,
    MintedKey,
    Principal,
    Scope,
)
from skerry.identity.store.accounts import AccountStore
from skerry.identity.store.keys import KeyStore, terms_values
from skerry.identity.trail import Trail
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.errors import FieldError, Invalid, NotFound, Unavailable
from skerry.kernel.ids import IdFactory, KeyId, OrganizationId, ProjectId, ServiceAccountId
from skerry.kernel.money import Money
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.secrets import Keyring

LONGEST_GRACE_SECONDS = 30 * 86_400


class BudgetSink(Protocol):
    """Where the budget of a key is kept and drawn down (billing)."""

    async def set_key_budget(self, tx: Tx, project: ProjectId, key_id: KeyId, limit: Money) -> None: ...


class Keys:
    def __init__(
        self,
        db: Database,
        clock: Clock,
        keyring: Keyring,
        trail: Trail,
        new_id: IdFactory,
        budgets: BudgetSink | None,
    ) -> None:
        self.db = db
        self.clock = clock
        self.keyring = keyring
        self.trail = trail
        self.new_id = new_id
        self.budgets = budgets
        self.store = KeyStore()
        self.accounts = AccountStore()

    async def authenticate(self, secret: str | None) -> Principal:
        """Whose secret it is. Raises MissingKey, UnknownKey, RevokedKey, ExpiredKey."""
        if not secret:
            raise MissingKey(
                "this request needs a key", suggestion="Send `Authorization: Bearer sk-…`; `skerry up` wrote yours."
            )
        if not rules.looks_like_secret(secret):
            raise _unknown()
        async with self.db.reading() as tx:
            found = await self.store.by_digests(tx, self.keyring.hmacs(secret.encode()))
        if found is None:
            raise _unknown()
        key, retires_at = found
        now = self.clock.now()
        if retires_at is not None and retires_at <= now and key.revoked_at is None:
            raise RevokedKey("this key was rotated", suggestion="Use the secret that the rotation answered with.")
        match key.status(now):
            case KeyStatus.REVOKED:
                raise RevokedKey("this key was revoked", suggestion="Use another key, or create one.")
            case KeyStatus.EXPIRED:
                raise ExpiredKey("this key has expired", suggestion="Use another key, or create one.")
        return _principal(key)

    async def create(
        self,
        principal: Principal,
        name: str,
        terms: KeyTerms,
        service_account: ServiceAccountId | None = None,
    ) -> MintedKey:
        """A key in the project acted in; one with the scope `operator` in the project of the key that makes it.

        Raises GrantTooWide, OperatorRequired, NotFound for the service account.
        """
        self._require_future(terms.expires_at)
        async with self.db.transaction() as tx:
            maker = await self._maker(tx, principal)
            rules.require_grantable(maker.terms, terms)
            organization, project = principal.organization_id, principal.project_id
            if Scope.OPERATOR in terms.scopes:
                organization, project = maker.organization_id, maker.project_id
            if service_account is not None:
                await self.accounts.require(tx, project, service_account)
            return await self.mint(tx, principal, organization, project, name, terms, service_account)

    async def mint(
        self,
        tx: Tx,
        actor: Principal | None,
        organization: OrganizationId,
        project: ProjectId,
        name: str,
        terms: KeyTerms,
        service_account: ServiceAccountId | None = None,
    ) -> MintedKey:
        """The part of `create` below its rules."""
        key_id, secret, now = KeyId(self.new_id("key")), rules.new_secret(), self.clock.now()
        key = ApiKey(
            id=key_id,
            organization_id=organization,
            project_id=project,
            name=name,
            last4=secret[-4:],
            terms=terms,
            service_account_id=service_account,
            created_at=now,
            created_by=actor.key_id if actor else None,
            rotated_at=None,
            revoked_at=None,
            seq=await self.store.next_seq(tx),
        )
        await self.store.insert(tx, key)
        await self.store.insert_secret(tx, key_id, self.keyring.hmac(secret.encode()), key.last4, now)
        await self._set_budget(tx, key)
        await self._note(tx, actor, key, "create", {"name": name, **_said(terms)})
        return MintedKey(key, secret)

    async def list(self, project: ProjectId, page: PageRequest) -> Page[ApiKey]:
        async with self.db.reading() as tx:
            return await self.store.list(tx, project, page)

    async def get(self, project: ProjectId, key: KeyId) -> ApiKey:
        """Raises NotFound."""
        async with self.db.reading() as tx:
            return await self._key(tx, project, key)

    async def update(self, principal: Principal, key_id: KeyId, name: str | None, changes: Mapping[str, Any]) -> ApiKey:
        """Replace the name (None: keep) and fields of the terms: `models`, `expires_at`, `limits`.

        Nobody widens a key beyond their own rights. Raises NotFound, GrantTooWide, KeyNotActive.
        """
        async with self.db.transaction() as tx:
            key = await self._held_by(tx, principal, key_id)
            terms = replace(key.terms, **changes)
            if "expires_at" in changes:
                self._require_future(terms.expires_at)
            rules.require_grantable((await self._maker(tx, principal)).terms, terms)
            if terms.limits.budget is None and key.terms.limits.budget is not None:
                raise Invalid(
                    "a budget can be changed, but not taken away",
                    suggestion="Set a larger one, or create a key without a budget.",
                    errors=[FieldError("limits.budget", "required", "this key has a budget")],
                )
            changed = replace(key, name=name or key.name, terms=terms, seq=await self.store.next_seq(tx))
            values = {"name": changed.name, "seq": changed.seq, **terms_values(terms)}
            await self.store.update(tx, key.project_id, key.id, values)
            if terms.limits.budget != key.terms.limits.budget:
                await self._set_budget(tx, changed)
            await self._note(tx, principal, changed, "update", {"name": changed.name, **_said(terms)})
        return changed

    async def rotate(self, principal: Principal, key_id: KeyId, grace_seconds: int = 0) -> MintedKey:
        """A new secret for the same key: its id, usage and budget go on. Old secrets work for `grace_seconds` more.

        Raises NotFound, GrantTooWide, KeyNotActive.
        """
        secret, now = rules.new_secret(), self.clock.now()
        async with self.db.transaction() as tx:
            key = await self._held_by(tx, principal, key_id)
            seq = await self.store.next_seq(tx)
            await self.store.retire_secrets(tx, key.id, now + timedelta(seconds=grace_seconds))
            await self.store.insert_secret(tx, key.id, self.keyring.hmac(secret.encode()), secret[-4:], now)
            await self.store.update(tx, key.project_id, key.id, {"rotated_at": now, "seq": seq})
            rotated = replace(key, last4=secret[-4:], rotated_at=now, seq=seq)
            detail = {"grace_seconds": grace_seconds, "last4": rotated.last4}
            await self._note(tx, principal, rotated, "rotate", detail)
        return MintedKey(rotated, secret)

    async def revoke(self, principal: Principal, key_id: KeyId) -> ApiKey:
        """For good, and the same answer for a key that is revoked already. Raises NotFound, OperatorRequired."""
        async with self.db.transaction() as tx:
            return await self._revoke(tx, principal, await self._key(tx, principal.project_id, key_id, lock=True))

    async def revoke_all_of(self, tx: Tx, principal: Principal, account: ServiceAccountId) -> None:
        """Revoke the keys of a service account. Raises OperatorRequired."""
        for key in await self.store.live_of_account(tx, principal.project_id, account):
            await self._revoke(tx, principal, key)

    async def snapshot(self, tx: Tx, since: int) -> Sequence[KeyRecord]:
        """Records of keys that changed after change number `since` (0: all), revoked ones included."""
        return await self.store.changed_since(tx, since)

    # Helpers

    async def _key(self, tx: Tx, project: ProjectId, key_id: KeyId, *, lock: bool = False) -> ApiKey:
        key = await self.store.get(tx, project, key_id, lock=lock)
        if key is None:
            raise NotFound(f"there is no key {key_id} in this project", suggestion="GET /api/v1/api-keys lists them.")
        return key

    async def _maker(self, tx: Tx, principal: Principal) -> ApiKey:
        """The principal's own key, wherever it lives."""
        key = await self.store.own(tx, principal.key_id)
        if key is None:
            raise _unknown()
        return key

    async def _held_by(self, tx: Tx, principal: Principal, key_id: KeyId) -> ApiKey:
        """A live key that the principal may take over: its own, or one with no more rights than its own."""
        key = await self._key(tx, principal.project_id, key_id, lock=True)
        if key.id != principal.key_id:
            rules.require_grantable((await self._maker(tx, principal)).terms, key.terms)
        status = key.status(self.clock.now())
        if status is not KeyStatus.ACTIVE:
            raise KeyNotActive(f"this key is {status}", suggestion="Create a new key.")
        return key

    async def _revoke(self, tx: Tx, principal: Principal, key: ApiKey) -> ApiKey:
        if Scope.OPERATOR in key.terms.scopes and not principal.operator:
            raise OperatorRequired("only an operator key can revoke an operator key")
        if key.revoked_at is not None:
            return key
        revoked = replace(key, revoked_at=self.clock.now(), seq=await self.store.next_seq(tx))
        values = {"revoked_at": revoked.revoked_at, "seq": revoked.seq}
        await self.store.update(tx, key.project_id, key.id, values)
        await self._note(tx, principal, revoked, "revoke", {"name": key.name})
        return revoked

    async def _set_budget(self, tx: Tx, key: ApiKey) -> None:
        if key.terms.limits.budget is None:
            return
        if self.budgets is None:
            raise Unavailable("budgets are not kept here", code="budgets_unavailable", retry_after=60)
        await self.budgets.set_key_budget(tx, key.project_id, key.id, key.terms.limits.budget)

    async def _note(self, tx: Tx, actor: Principal | None, key: ApiKey, verb: str, detail: Mapping[str, Any]) -> None:
        await notify(tx, KEYS, key.id)
        await self.trail.note(tx, actor, key.organization_id, key.project_id, "api_key", key.id, verb, detail)

    def _require_future(self, expires_at: datetime | None) -> None:
        if expires_at is not None and expires_at <= self.clock.now():
            message = "expires_at lies in the past"
            raise Invalid(message, errors=[FieldError("expires_at", "in_the_past", message)])


def _unknown() -> UnknownKey:
    return UnknownKey("no such key", suggestion="Check that the whole key was copied, and that it is of this cloud.")


def _principal(key: ApiKey) -> Principal:
    operator = Scope.OPERATOR in key.terms.scopes
    return Principal(
        key_id=key.id,
        key_name=key.name,
        organization_id=key.organization_id,
        project_id=key.project_id,
        scopes=frozenset(Scope) if operator else key.terms.scopes,
        operator=operator,
        models=key.terms.models,
    )


def _said(terms: KeyTerms) -> dict[str, Any]:
    """The terms as an audit event and a timeline hold them."""
    values = terms_values(terms)
    if terms.expires_at is not None:
        values["expires_at"] = rfc3339(terms.expires_at)
    return {name: value for name, value in values.items() if value is not None}
