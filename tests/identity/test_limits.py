"""Limits, tiers and content logging of projects and organizations, as gateways come to know them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.db.database import Database
from skerry.db.notify import KEYS, Listener
from skerry.identity import rules
from skerry.identity.changes import ProjectChanges
from skerry.identity.errors import BuiltInProject, ContentNotYours, GrantTooWide, NameTaken, OperatorRequired
from skerry.identity.model import KeyTerms, OrganizationTier, RateLimits, Scope
from skerry.identity.service import Identity
from skerry.kernel.errors import NotFound
from skerry.kernel.paging import PageRequest
from tests.identity.conftest import People

WRITE = frozenset({Scope.READ, Scope.WRITE})
FEW = RateLimits(requests_per_minute=10, tokens_per_minute=1000, concurrent_requests=2)


@pytest.fixture
async def lab(identity: Identity, people: People):
    """A second project of the demo organization, and a key of its own."""
    project = await identity.tenants.create_project(people.customer, "lab")
    whoever = await identity.tenants.resolve_project(people.operator, project.id)
    acting = _in(people.operator, whoever)
    minted = await identity.create_key(acting, "lab key", KeyTerms(WRITE))
    return project, await identity.authenticate(minted.secret)


def _in(principal, project):
    from dataclasses import replace

    return replace(principal, project_id=project.id, organization_id=project.organization_id)


async def snapshot(identity: Identity, since: int = 0):
    async with identity.db.reading() as tx:
        return await identity.key_snapshot(tx, since)


async def test_limits_and_tier_travel_with_every_key_of_their_owner(identity: Identity, people: People, lab) -> None:
    project, key = lab
    before = max(record.seq for record in await snapshot(identity))
    await identity.changes.update_project(people.customer, project.id, ProjectChanges(limits=FEW, log_content=True))
    (changed,) = await snapshot(identity, before)
    assert (changed.key_id, changed.project_limits, changed.log_content) == (key.key_id, FEW, True)
    assert (changed.organization_limits, changed.tier) == (RateLimits(), OrganizationTier.STANDARD)
    await identity.changes.update_organization(
        people.operator, "demo", limits=RateLimits(concurrent_requests=7), tier=OrganizationTier.FREE
    )
    later = await snapshot(identity, changed.seq)
    assert {record.key_id for record in later} == {key.key_id, people.customer.key_id}
    assert all(record.organization_limits == RateLimits(concurrent_requests=7) for record in later)
    assert all(record.tier is OrganizationTier.FREE for record in later)
    assert {record.project_limits for record in later} == {FEW, RateLimits()}


async def test_gateways_are_told(identity: Identity, people: People, database: Database, lab) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    ready = asyncio.Event()
    listener = Listener(database.url, [KEYS], lambda _, payload: told.put_nowait(payload), ready.set)
    listening = asyncio.create_task(listener.run())
    try:
        await asyncio.wait_for(ready.wait(), 30)
        await identity.changes.update_project(people.customer, lab[0].id, ProjectChanges(limits=FEW))
        assert await asyncio.wait_for(told.get(), 30) == lab[0].id
        organization = await identity.changes.update_organization(
            people.operator, "demo", limits=None, tier=OrganizationTier.FREE
        )
        assert await asyncio.wait_for(told.get(), 30) == organization.id
    finally:
        listening.cancel()


async def test_a_change_says_what_it_was_in_the_trail(identity: Identity, people: People, lab) -> None:
    project, _ = lab
    await identity.changes.update_project(people.customer, project.id, ProjectChanges(name="den", limits=RateLimits(5)))
    await identity.changes.update_organization(people.operator, "demo", limits=FEW, tier=None)
    events = (await identity.trail.list(people.customer.organization_id, PageRequest(500))).data
    said = {event.entry.action: event.entry.detail for event in events[-2:]}
    assert said == {
        "project.update": {
            "name": "den", "requests_per_minute": 5, "tokens_per_minute": "none", "concurrent_requests": "none"
        },
        "organization.update": {"requests_per_minute": 10, "tokens_per_minute": 1000, "concurrent_requests": 2},
    }  # fmt: skip
    assert (await identity.verify_audit(people.customer.organization_id)).first_break is None


async def test_nothing_given_changes_nothing(identity: Identity, people: People, lab) -> None:
    await identity.changes.update_project(people.customer, lab[0].id, ProjectChanges(limits=FEW, log_content=True))
    seq = max(record.seq for record in await snapshot(identity))
    same = await identity.changes.update_project(people.customer, lab[0].id, ProjectChanges())
    assert (same.limits, same.log_content, same.name) == (FEW, True, "lab")
    assert await snapshot(identity, seq) == []


async def test_a_project_s_own_key_lowers_its_limits_and_never_raises_them(
    identity: Identity, people: People, lab
) -> None:
    project, key = lab
    lowered = await identity.changes.update_project(key, project.id, ProjectChanges(limits=RateLimits(100, None, 5)))
    assert lowered.limits == RateLimits(100, None, 5)
    for wider in (RateLimits(101, None, 5), RateLimits(100), RateLimits()):
        with pytest.raises(GrantTooWide):
            await identity.changes.update_project(key, project.id, ProjectChanges(limits=wider))
    lifted = await identity.changes.update_project(people.customer, project.id, ProjectChanges(limits=RateLimits()))
    assert lifted.limits == RateLimits()


@given(*[st.builds(RateLimits, *[st.none() | st.integers(1, 4)] * 3)] * 2)
def test_what_is_tighter_never_lets_more_through(now: RateLimits, wanted: RateLimits) -> None:
    def values(limits):
        return [getattr(limits, name) or 10**9 for name in rules.RATES]

    tighter = all(want <= have for have, want in zip(values(now), values(wanted), strict=True))
    try:
        rules.require_tighter(now, wanted)
    except GrantTooWide:
        assert not tighter
    else:
        assert tighter


async def test_only_the_operator_limits_an_organization(identity: Identity, people: People, lab) -> None:
    for principal in (people.customer, lab[1]):
        with pytest.raises(OperatorRequired):
            await identity.changes.update_organization(principal, "demo", limits=FEW, tier=OrganizationTier.FREE)


async def test_an_operator_turns_content_off_but_never_on(identity: Identity, people: People, lab) -> None:
    project, key = lab
    with pytest.raises(ContentNotYours):
        await identity.changes.update_project(people.operator, project.id, ProjectChanges(log_content=True))
    assert (await identity.changes.update_project(key, project.id, ProjectChanges(log_content=True))).log_content
    off = await identity.changes.update_project(people.operator, project.id, ProjectChanges(log_content=False))
    assert not off.log_content


async def test_a_project_is_renamed_to_what_is_free(identity: Identity, people: People, lab) -> None:
    project, key = lab
    renamed = await identity.changes.update_project(key, "lab", ProjectChanges(name="den"))
    assert (renamed.id, renamed.name) == (project.id, "den")
    with pytest.raises(NameTaken):
        await identity.changes.update_project(key, project.id, ProjectChanges(name="default"))
    assert (await identity.changes.update_project(key, project.id, ProjectChanges(name="den"))).name == "den"
    with pytest.raises(BuiltInProject):
        await identity.changes.update_project(people.customer, "default", ProjectChanges(name="other"))


async def test_a_strange_project_s_limits_are_out_of_reach(identity: Identity, people: People, lab) -> None:
    with pytest.raises(NotFound):
        await identity.changes.update_project(lab[1], people.customer.project_id, ProjectChanges(limits=FEW))
