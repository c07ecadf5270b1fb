"""The audit trail: what it holds, and that tampering with it shows."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import psycopg
import pytest
from sqlalchemy import text

from skerry.db.database import libpq_url
from skerry.identity.audit import GENESIS, canonical_json, chain_hash, fault
from skerry.identity.model import AuditEntry, AuditEvent, KeyTerms, Scope
from skerry.kernel.paging import PageRequest


async def test_the_trail_says_who_did_what_on_what_and_from_where(identity, people):
    who = replace(people.customer, origin="203.0.113.7", request_id="req-1")
    key = await identity.create_key(who, "robot", KeyTerms(frozenset({Scope.READ})))
    event = (await identity.trail.list(who.organization_id, PageRequest(), resource=key.key.id)).data[0]
    assert (event.key_id, event.key_name) == (who.key_id, "default")
    assert (event.entry.action, event.entry.resource, event.entry.outcome) == ("api_key.create", key.key.id, "done")
    assert (event.origin, event.request_id, event.project_id) == ("203.0.113.7", "req-1", who.project_id)


async def test_an_untouched_chain_is_intact(identity, people, minted):
    for _ in range(3):
        await minted()
    verdict = await identity.verify_audit(people.customer.organization_id)
    assert verdict.first_break is None and verdict.events >= 4


async def test_simultaneous_changes_make_one_chain(identity, people, minted):
    await asyncio.gather(*(minted() for _ in range(12)))
    verdict = await identity.verify_audit(people.customer.organization_id)
    assert verdict.first_break is None and verdict.events >= 13


async def test_the_chain_crosses_months(identity, people, clock, minted):
    for _ in range(3):
        await minted()
        clock.advance(days=31)
    assert (await identity.verify_audit(people.customer.organization_id)).first_break is None


async def test_the_database_refuses_to_change_the_trail(identity, people):
    for statement in ("UPDATE audit_events SET action = 'x'", "DELETE FROM audit_events"):
        with pytest.raises(Exception, match="never changed"):
            async with identity.db.transaction() as tx:
                await tx.execute(text(statement))


TAMPERINGS = {
    "action": "UPDATE audit_events SET action = 'nothing.happened' WHERE {third}",
    "who": "UPDATE audit_events SET key_id = 'key_other' WHERE {third}",
    "time": "UPDATE audit_events SET at = at + interval '1 second' WHERE {third}",
    "origin": "UPDATE audit_events SET origin = '198.51.100.1' WHERE {third}",
    "outcome": "UPDATE audit_events SET outcome = 'nonsense' WHERE {third}",
    "detail": "UPDATE audit_events SET detail = '{{\"a\": 1.5}}' WHERE {third}",
    "removed": "DELETE FROM audit_events WHERE {third}",
    "twice": "INSERT INTO audit_events SELECT organization_id, seq, at + interval '1 hour', id, project_id, key_id, "
    "key_name, origin, request_id, action, resource, outcome, detail, prev_hash, hash FROM audit_events WHERE {third}",
    "links": "UPDATE audit_events SET prev_hash = decode(repeat('00', 32), 'hex') WHERE {third}",
}


@pytest.mark.parametrize("how", TAMPERINGS)
async def test_tampering_is_found_where_it_happened(identity, people, minted, how):
    for _ in range(4):
        await minted()
    organization = people.customer.organization_id
    _as_intruder(identity, TAMPERINGS[how].format(third=f"organization_id = '{organization}' AND seq = 3"))
    found = (await identity.verify_audit(organization)).first_break
    assert found is not None and found.seq == (4 if how == "removed" else 3)


async def test_a_removed_end_is_found_by_the_head(identity, people, minted):
    await minted()
    organization = people.customer.organization_id
    _as_intruder(
        identity,
        "DELETE FROM audit_events e USING audit_heads h WHERE e.organization_id = h.organization_id "
        f"AND e.seq = h.seq AND e.organization_id = '{organization}'",
    )
    found = (await identity.verify_audit(organization)).first_break
    assert found is not None and "head" in found.reason


async def test_a_removed_beginning_is_found(identity, people, minted):
    organization = people.customer.organization_id
    _as_intruder(identity, f"DELETE FROM audit_events WHERE organization_id = '{organization}' AND seq = 1")
    found = (await identity.verify_audit(organization)).first_break
    assert found is not None and found.reason == "event 1 is missing"


async def test_organizations_have_chains_of_their_own(identity, people, minted):
    organization = people.customer.organization_id
    _as_intruder(identity, f"DELETE FROM audit_events WHERE organization_id = '{organization}'")
    assert (await identity.verify_audit(organization)).first_break is not None
    assert (await identity.verify_audit(people.operator.organization_id)).first_break is None


def test_canonical_json_is_one_string_for_one_value():
    assert canonical_json({"b": [1, None, True], "a": "é"}) == b'{"a":"\\u00e9","b":[1,null,true]}'
    with pytest.raises(ValueError, match="float"):
        canonical_json({"a": [{"b": 0.1}]})


def test_a_chain_can_be_verified_outside_the_database():
    event = AuditEvent(
        id="aud_1", organization_id="org_1", project_id=None, seq=1, at=datetime(2026, 1, 1, tzinfo=UTC),
        key_id=None, key_name="system", origin="", request_id="", entry=AuditEntry("a.b", "x"),
        prev_hash=GENESIS, hash=b"",
    )  # fmt: skip
    sealed = replace(event, hash=chain_hash(GENESIS, event))
    assert fault(sealed, 1, GENESIS) is None
    assert fault(sealed, 2, GENESIS) == "event 1 is there twice"
    by_hand = (
        b'{"action":"a.b","at":"2026-01-01T00:00:00Z","detail":{},"id":"aud_1","key_id":null,"key_name":"system",'
        b'"organization":"org_1","origin":"","outcome":"done","project":null,"request_id":"","resource":"x","seq":1}'
    )
    assert sealed.hash == sha256(bytes(32) + by_hand).digest()


def _as_intruder(identity, statement):
    """Someone with full rights on the database, who knows how to switch triggers off."""
    with psycopg.connect(libpq_url(identity.db.url), autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_events DISABLE TRIGGER USER")
        for (name,) in connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_events'::regclass"
        ).fetchall():
            connection.execute(f"ALTER TABLE {name} DISABLE TRIGGER USER")
        connection.execute(statement)
