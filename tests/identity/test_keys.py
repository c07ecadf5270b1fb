"""The life of a key, from its making to its end."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from skerry.db.notify import KEYS, Listener
from skerry.identity.errors import (
    ExpiredKey,
    GrantTooWide,
    KeyNotActive,
    MissingKey,
    OperatorRequired,
    RevokedKey,
    UnknownKey,
)
from skerry.identity.model import KeyLimits, KeyStatus, KeyTerms, Scope
from skerry.identity.service import Identity
from skerry.kernel.errors import Invalid, NotFound
from skerry.kernel.money import Money
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring
from tests.waiting import eventually

READ, WRITE = Scope.READ, Scope.WRITE


async def test_bootstrap_makes_two_keys_once(identity, people):
    again = await identity.bootstrap()
    assert (again.operator_key, again.project_key) == (None, None)
    assert people.operator.operator and people.operator.scopes == frozenset(Scope)
    assert people.customer.scopes == frozenset(Scope) - {Scope.OPERATOR}


async def test_bootstrap_puts_the_keys_where_they_belong(identity, people):
    async with identity.db.reading() as tx:
        platform = await identity.project(tx, people.operator.project_id)
        default = await identity.project(tx, people.customer.project_id)
    assert (platform.organization, platform.name, platform.trusted) == ("operator", "platform", True)
    assert (default.organization, default.name, default.trusted, default.home) == ("demo", "default", True, True)


@pytest.mark.parametrize(
    ("secret", "error"),
    [
        (None, MissingKey),
        ("", MissingKey),
        ("sk-" + "x" * 48, UnknownKey),
        ("hunter2", UnknownKey),
        ("sk-" + "é" * 48, UnknownKey),
        ("sk-\x00" + "x" * 48, UnknownKey),
    ],
)
async def test_what_is_no_key_is_refused_by_name(identity, people, secret, error):
    with pytest.raises(error):
        await identity.authenticate(secret)


async def test_a_secret_is_not_in_the_database(identity, people, minted):
    key = await minted()
    assert len(key.secret) == 51 and key.secret.endswith(key.key.last4)
    async with identity.db.reading() as tx:
        for table in ("api_keys", "api_key_secrets", "audit_events", "events"):
            rows = await tx.execute(text(f"SELECT t::text FROM {table} t"))
            assert not any(key.secret[3:] in row or people.operator_secret[3:] in row for (row,) in rows)


async def test_a_key_ends_when_it_expires(identity, clock, minted):
    key = await minted(expires_at=clock.now() + timedelta(hours=1))
    assert (await identity.authenticate(key.secret)).key_id == key.key.id
    clock.advance(hours=1)
    with pytest.raises(ExpiredKey):
        await identity.authenticate(key.secret)


async def test_a_key_cannot_be_born_expired(identity, clock, minted):
    with pytest.raises(Invalid):
        await minted(expires_at=clock.now())


async def test_a_revoked_key_stays_revoked(identity, people, minted):
    key = await minted()
    revoked = await identity.revoke_key(people.customer, key.key.id)
    assert await identity.revoke_key(people.customer, key.key.id) == revoked
    with pytest.raises(RevokedKey):
        await identity.authenticate(key.secret)
    with pytest.raises(KeyNotActive):
        await identity.rotate_key(people.customer, key.key.id)


async def test_rotation_ends_the_old_secret_at_once(identity, people, minted):
    old = await minted()
    new = await identity.rotate_key(people.customer, old.key.id)
    assert new.key.id == old.key.id and new.secret != old.secret
    with pytest.raises(RevokedKey, match="rotated"):
        await identity.authenticate(old.secret)
    assert (await identity.authenticate(new.secret)).key_id == old.key.id


async def test_rotation_with_grace_lets_both_secrets_work_for_a_while(identity, people, clock, minted):
    old = await minted()
    new = await identity.rotate_key(people.customer, old.key.id, grace_seconds=60)
    assert await identity.authenticate(old.secret) == await identity.authenticate(new.secret)
    clock.advance(seconds=60)
    with pytest.raises(RevokedKey):
        await identity.authenticate(old.secret)
    await identity.authenticate(new.secret)


async def test_a_second_rotation_never_prolongs_the_grace_of_the_first(identity, people, clock, minted):
    old = await minted()
    await identity.rotate_key(people.customer, old.key.id, grace_seconds=60)
    await identity.rotate_key(people.customer, old.key.id, grace_seconds=3600)
    clock.advance(seconds=60)
    with pytest.raises(RevokedKey):
        await identity.authenticate(old.secret)


async def test_a_budget_is_handed_to_billing(identity, people, budgets, minted):
    limit = Money(Decimal("12.5"), "EUR")
    key = await minted(limits=KeyLimits(budget=limit))
    assert budgets.set == [(people.customer.project_id, key.key.id, limit)]


async def test_a_budget_cannot_be_taken_away(identity, people, minted):
    key = await minted(limits=KeyLimits(budget=Money(Decimal(1), "EUR")))
    with pytest.raises(Invalid):
        await identity.keys.update(people.customer, key.key.id, None, {"limits": KeyLimits()})


async def test_keys_of_another_project_do_not_exist(identity, people, minted):
    key = await minted()
    other = await identity.tenants.create_project(people.operator, "other", organization="demo")
    stranger = await identity.authenticate((await _key_in(identity, people, other.id, WRITE, READ)).secret)
    for attempt in (
        identity.keys.get(other.id, key.key.id),
        identity.revoke_key(stranger, key.key.id),
        identity.rotate_key(stranger, key.key.id),
        identity.keys.update(stranger, key.key.id, "mine", {}),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_an_operator_key_is_made_beside_the_key_that_makes_it(identity, people):
    acting = await _acting_in(identity, people.operator, "default")
    made = await identity.create_key(acting, "second", KeyTerms(frozenset({Scope.OPERATOR})))
    assert made.key.project_id == people.operator.project_id


async def test_only_operators_make_operator_keys(identity, people):
    with pytest.raises(OperatorRequired):
        await identity.create_key(people.customer, "more", KeyTerms(frozenset({Scope.OPERATOR})))


async def test_a_key_with_a_budget_makes_no_keys_but_rotates_itself(identity, people, minted):
    key = await minted(READ, WRITE, limits=KeyLimits(budget=Money(Decimal(1), "EUR")))
    principal = await identity.authenticate(key.secret)
    with pytest.raises(GrantTooWide):
        await identity.create_key(principal, "x", KeyTerms(frozenset({READ})))
    assert (await identity.rotate_key(principal, key.key.id)).key.id == key.key.id


async def test_a_weaker_key_cannot_take_over_a_stronger_one(identity, people, minted):
    weak = await identity.authenticate((await minted(WRITE)).secret)
    strong = await minted(WRITE, READ)
    with pytest.raises(GrantTooWide):
        await identity.rotate_key(weak, strong.key.id)


async def test_a_limited_key_cannot_lift_its_own_limits(identity, minted):
    key = await minted(WRITE, limits=KeyLimits(requests_per_minute=10))
    principal = await identity.authenticate(key.secret)
    for wider in (KeyLimits(), KeyLimits(requests_per_minute=11)):
        with pytest.raises(GrantTooWide):
            await identity.keys.update(principal, key.key.id, None, {"limits": wider})
    narrower = await identity.keys.update(principal, key.key.id, None, {"limits": KeyLimits(requests_per_minute=9)})
    assert narrower.terms.limits.requests_per_minute == 9


async def test_every_change_has_a_higher_number_and_is_in_the_next_snapshot(identity, people, minted):
    seen = await _seq(identity)
    key = await minted()
    for change in (
        lambda: identity.keys.update(people.customer, key.key.id, "renamed", {}),
        lambda: identity.rotate_key(people.customer, key.key.id, grace_seconds=10),
        lambda: identity.revoke_key(people.customer, key.key.id),
    ):
        before = await _seq(identity)
        assert before > seen
        await change()
        async with identity.db.reading() as tx:
            records = await identity.key_snapshot(tx, since=before)
        assert {record.key_id for record in records} == {key.key.id}
        seen = before


async def test_a_later_change_cannot_be_seen_before_an_earlier_one(identity, people):
    """Else a gateway that has seen the later number would never ask for the earlier one."""
    async with identity.db.transaction() as first:
        earlier = await identity.keys.store.next_seq(first)
        later = asyncio.create_task(_commit_a_number(identity))
        await asyncio.wait([later], timeout=0.2)
        assert not later.done()
    assert await later > earlier


async def test_gateways_are_told_of_every_change(identity, people, minted):
    told = []
    listener = Listener(
        identity.db.url, [KEYS], lambda _, payload: told.append(payload), lambda: told.append("connected")
    )
    listening = asyncio.create_task(listener.run())
    await eventually(lambda: told == ["connected"])
    key = (await minted()).key
    await identity.rotate_key(people.customer, key.id)
    await identity.revoke_key(people.customer, key.id)
    await eventually(lambda: told == ["connected", key.id, key.id, key.id])
    listening.cancel()


async def test_a_snapshot_has_one_record_for_each_secret(identity, people, clock, keyring, minted):
    old = await minted(READ, models=frozenset({"a"}), limits=KeyLimits(tokens_per_minute=5))
    new = await identity.rotate_key(people.customer, old.key.id, grace_seconds=10)
    async with identity.db.reading() as tx:
        records = {r.digest: r for r in await identity.key_snapshot(tx) if r.key_id == old.key.id}
    retired, live = (records.pop(keyring.hmac(s.encode())) for s in (old.secret, new.secret))
    assert not records
    assert retired.revoked_at == clock.now() + timedelta(seconds=10) and live.revoked_at is None
    assert live.models == {"a"} and live.limits.tokens_per_minute == 5 and live.scopes == {READ}


async def test_secrets_made_before_the_keyring_was_rotated_still_work(identity, people, clock, database):
    rotated = Keyring([("k2", b"another secret of the tests"), ("k1", b"a secret of the tests")])
    later = Identity(database, clock, rotated, EventLog(clock))
    assert (await later.authenticate(people.customer_secret)).key_id == people.customer.key_id
    with pytest.raises(UnknownKey):
        alone = Keyring([("k2", b"another secret of the tests")])
        await Identity(database, clock, alone, EventLog(clock)).authenticate(people.customer_secret)


async def test_a_service_account_takes_its_keys_with_it(identity, people):
    account = await identity.accounts.create(people.customer, "robot")
    key = await identity.create_key(people.customer, "k", KeyTerms(frozenset({READ})), account.id)
    await identity.accounts.delete(people.customer, account.id)
    with pytest.raises(RevokedKey):
        await identity.authenticate(key.secret)
    with pytest.raises(NotFound):
        await identity.create_key(people.customer, "k2", KeyTerms(frozenset({READ})), account.id)
    assert (await identity.keys.get(people.customer.project_id, key.key.id)).status(identity.clock.now()) is (
        KeyStatus.REVOKED
    )


async def _key_in(identity, people, project, *scopes):
    acting = await _acting_in(identity, people.operator, project)
    return await identity.create_key(acting, "k", KeyTerms(frozenset(scopes)))


async def _acting_in(identity, principal, ref):
    from skerry.identity.access import Access

    return await Access(identity).within(principal, ref)


async def _commit_a_number(identity):
    async with identity.db.transaction() as tx:
        return await identity.keys.store.next_seq(tx)


async def _seq(identity):
    async with identity.db.reading() as tx:
        return max(record.seq for record in await identity.key_snapshot(tx))
