"""Rows of API keys and of the digests of their secrets."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select, text
from sqlalchemy.dialects.postgresql import insert

from skerry.db.database import Tx
from skerry.identity.model import ApiKey, KeyLimits, KeyRecord, KeyTerms, OrganizationTier, RateLimits, Scope
from skerry.identity.rules import RATES, earliest
from skerry.identity.tables import api_key_secrets, api_keys, key_seq, organizations, projects
from skerry.kernel.ids import KeyId, OrganizationId, ProjectId, ServiceAccountId
from skerry.kernel.money import Money, decimal_from_nano
from skerry.kernel.paging import Page, PageRequest

_SEQ_LOCK = 0x5EC7_4B59
"""Number of the advisory lock under which `seq` is drawn."""

_NEWEST = api_key_secrets.alias("newest")
_LAST4 = (
    select(_NEWEST.c.last4)
    .where(_NEWEST.c.key_id == api_keys.c.id)
    .order_by(_NEWEST.c.retires_at.desc().nulls_first(), _NEWEST.c.created_at.desc())
    .limit(1)
    .correlate(api_keys)
    .scalar_subquery()
    .label("last4")
)
_KEYS = select(api_keys, _LAST4)
_TENANTS = (
    *(projects.c[name].label(f"project_{name}") for name in RATES),
    *(organizations.c[name].label(f"organization_{name}") for name in RATES),
    organizations.c.tier,
    projects.c.log_content,
)


class KeyStore:
    async def next_seq(self, tx: Tx) -> int:
        """The next change number.

        Writers wait for each other from here to their commit: a reader that has seen n will never meet a number
        below n later.
        """
        await tx.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _SEQ_LOCK})
        return (await tx.execute(select(key_seq.next_value()))).scalar_one()

    async def insert(self, tx: Tx, key: ApiKey) -> None:
        await tx.execute(
            insert(api_keys).values(
                id=key.id,
                organization_id=key.organization_id,
                project_id=key.project_id,
                service_account_id=key.service_account_id,
                name=key.name,
                created_at=key.created_at,
                created_by=key.created_by,
                seq=key.seq,
                **terms_values(key.terms),
            )
        )

    async def insert_secret(self, tx: Tx, key: KeyId, digest: bytes, last4: str, at: datetime) -> None:
        await tx.execute(insert(api_key_secrets).values(digest=digest, key_id=key, last4=last4, created_at=at))

    async def retire_secrets(self, tx: Tx, key: KeyId, at: datetime) -> None:
        """All secrets of the key end at `at`, or earlier where that was settled before."""
        live = api_key_secrets.c.retires_at.is_(None) | (api_key_secrets.c.retires_at > at)
        mine = api_key_secrets.c.key_id == key
        await tx.execute(api_key_secrets.update().where(mine, live).values(retires_at=at))

    async def get(self, tx: Tx, project: ProjectId, key: KeyId, *, lock: bool = False) -> ApiKey | None:
        query = _KEYS.where(api_keys.c.project_id == project, api_keys.c.id == key)
        if lock:
            query = query.with_for_update(of=api_keys)
        row = (await tx.execute(query)).one_or_none()
        return _key(row) if row else None

    async def own(self, tx: Tx, key: KeyId) -> ApiKey | None:
        """The key that a request was made with: the one look-up that needs no project."""
        row = (await tx.execute(_KEYS.where(api_keys.c.id == key))).one_or_none()
        return _key(row) if row else None

    async def list(self, tx: Tx, project: ProjectId, page: PageRequest) -> Page[ApiKey]:
        query = _KEYS.where(api_keys.c.project_id == project).order_by(api_keys.c.id)
        if page.after:
            query = query.where(api_keys.c.id > page.after[0])
        rows = [_key(row) for row in await tx.execute(query.limit(page.limit + 1))]
        return Page.cut(rows, page, lambda k: (k.id,))

    async def names(self, tx: Tx, project: ProjectId, ids: set[KeyId]) -> dict[KeyId, str]:
        mine = (api_keys.c.project_id == project) & api_keys.c.id.in_(ids)
        return {KeyId(row.id): row.name for row in await tx.execute(select(api_keys.c.id, api_keys.c.name).where(mine))}

    async def called(self, tx: Tx, project: ProjectId, text: str, *, part: bool) -> set[KeyId]:
        name = api_keys.c.name
        matches = name.icontains(text, autoescape=True) if part else name == text
        query = select(api_keys.c.id).where(api_keys.c.project_id == project, matches)
        return {KeyId(id) for id in (await tx.execute(query)).scalars()}

    async def live_of_account(self, tx: Tx, project: ProjectId, account: ServiceAccountId) -> Sequence[ApiKey]:
        mine = (api_keys.c.project_id == project) & (api_keys.c.service_account_id == account)
        return [_key(row) for row in await tx.execute(_KEYS.where(mine, api_keys.c.revoked_at.is_(None)))]

    async def project_has_keys(self, tx: Tx, project: ProjectId) -> bool:
        query = select(api_keys.c.id).where(api_keys.c.project_id == project).limit(1)
        return (await tx.execute(query)).first() is not None

    async def update(self, tx: Tx, project: ProjectId, key: KeyId, values: Mapping[str, Any]) -> None:
        mine = (api_keys.c.project_id == project) & (api_keys.c.id == key)
        await tx.execute(api_keys.update().where(mine).values(**values))

    async def touch_all_of(self, tx: Tx, owner: ProjectId | OrganizationId, seq: int) -> None:
        """Something that all keys of a project or an organization share has changed: `seq` is theirs from now on."""
        mine = (api_keys.c.project_id == owner) | (api_keys.c.organization_id == owner)
        await tx.execute(api_keys.update().where(mine).values(seq=seq))

    async def by_digests(self, tx: Tx, digests: Sequence[bytes]) -> tuple[ApiKey, datetime | None] | None:
        """The key whose secret has one of the digests (one for each key of the keyring), and when that retires."""
        query = _KEYS.add_columns(api_key_secrets.c.retires_at).join(
            api_key_secrets, api_key_secrets.c.key_id == api_keys.c.id
        )
        row = (await tx.execute(query.where(api_key_secrets.c.digest.in_(digests)))).one_or_none()
        return (_key(row), row.retires_at) if row else None

    async def changed_since(self, tx: Tx, seq: int) -> Sequence[KeyRecord]:
        """Records of all keys with a higher change number, in its order."""
        query: Select[Any] = (
            select(api_keys, api_key_secrets.c.digest, api_key_secrets.c.retires_at, *_TENANTS)
            .join(api_key_secrets, api_key_secrets.c.key_id == api_keys.c.id)
            .join(projects, projects.c.id == api_keys.c.project_id)
            .join(organizations, organizations.c.id == api_keys.c.organization_id)
            .where(api_keys.c.seq > seq)
            .order_by(api_keys.c.seq, api_key_secrets.c.created_at)
        )
        return [_record(row) for row in await tx.execute(query)]


def terms_values(terms: KeyTerms) -> dict[str, Any]:
    """The columns of a key's terms."""
    budget = terms.limits.budget
    return {
        "scopes": sorted(terms.scopes),
        "models": None if terms.models is None else sorted(terms.models),
        "expires_at": terms.expires_at,
        "requests_per_minute": terms.limits.requests_per_minute,
        "tokens_per_minute": terms.limits.tokens_per_minute,
        "budget_nano": None if budget is None else budget.to_nano(),
        "budget_currency": None if budget is None else budget.currency,
        "concurrent_requests": terms.limits.concurrent_requests,
    }


def _terms(row: Row[Any]) -> KeyTerms:
    budget = None if row.budget_nano is None else Money(decimal_from_nano(row.budget_nano), row.budget_currency)
    return KeyTerms(
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        models=None if row.models is None else frozenset(row.models),
        expires_at=row.expires_at,
        limits=KeyLimits(row.requests_per_minute, row.tokens_per_minute, budget, row.concurrent_requests),
    )


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=KeyId(row.id),
        organization_id=OrganizationId(row.organization_id),
        project_id=ProjectId(row.project_id),
        name=row.name,
        last4=row.last4 or "",
        terms=_terms(row),
        service_account_id=None if row.service_account_id is None else ServiceAccountId(row.service_account_id),
        created_at=row.created_at,
        created_by=None if row.created_by is None else KeyId(row.created_by),
        rotated_at=row.rotated_at,
        revoked_at=row.revoked_at,
        seq=row.seq,
    )


def _record(row: Row[Any]) -> KeyRecord:
    terms = _terms(row)
    scopes = frozenset(Scope) if Scope.OPERATOR in terms.scopes else terms.scopes
    return KeyRecord(
        digest=bytes(row.digest),
        key_id=KeyId(row.id),
        project_id=ProjectId(row.project_id),
        organization_id=OrganizationId(row.organization_id),
        scopes=scopes,
        models=terms.models,
        expires_at=terms.expires_at,
        # A secret that was rotated out is to its holder a revoked key, from the moment it retires.
        revoked_at=earliest(row.revoked_at, row.retires_at),
        limits=terms.limits,
        seq=row.seq,
        project_limits=RateLimits(*(getattr(row, f"project_{name}") for name in RATES)),
        organization_limits=RateLimits(*(getattr(row, f"organization_{name}") for name in RATES)),
        tier=OrganizationTier(row.tier),
        log_content=row.log_content,
    )
