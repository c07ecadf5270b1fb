from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.capacity.claims.errors import NodeTaken
from skerry.capacity.claims.model import Claim, HolderKind, level_of
from skerry.capacity.claims.rules import spans_of_nodes
from skerry.capacity.claims.store import ClaimStore
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import new_id

T0 = FakeClock().now()
HOUR = timedelta(hours=1)
KEY = ("leaf_1", "h100.8x")
STORE = ClaimStore()


def at(hours):
    return T0 + hours * HOUR


def claim(start=0, end=10, *, node="node_1", kind="reserved", accelerators=(0, 8), holder=None, **values):
    holder_kind, capacity_class = {
        "reservation": (HolderKind.RESERVATION, CapacityClass.RESERVED),
        "reserved": (HolderKind.WORKLOAD, CapacityClass.RESERVED),
        "on_demand": (HolderKind.WORKLOAD, CapacityClass.ON_DEMAND),
        "spot": (HolderKind.WORKLOAD, CapacityClass.SPOT),
    }[kind]
    return Claim(
        id=new_id("claim"),
        project="proj_1",
        holder_kind=holder_kind,
        holder=holder or new_id("wl"),
        capacity_class=capacity_class,
        leaf=KEY[0],
        sku=KEY[1],
        node=node,
        accelerators=accelerators,
        start=at(start),
        end=None if end is None else at(end),
        created_at=T0,
        **values,
    )


async def insert(database, *claims):
    async with database.transaction() as tx:
        await STORE.insert(tx, claims)


async def live(database, now=0):
    async with database.reading() as tx:
        return await STORE.live(tx, [KEY], at(now))


async def test_what_is_inserted_is_read_back_as_it_was(database):
    claims = [
        claim(0, 10, kind="reservation", holder="res_1", reservation="res_1", leg="leg_1"),
        claim(2, 4, node="node_2", kind="spot", accelerators=(2, 4), reclaim_at=at(3)),
        claim(2, None, node="node_3", kind="on_demand", pool=True, delivered_at=at(2)),
    ]
    await insert(database, *claims)
    assert await live(database) == claims


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("reservation", "reservation"),
        ("reservation", "on_demand"),
        ("on_demand", "on_demand"),
        ("on_demand", "spot"),
        ("on_demand", "reserved"),
        ("spot", "spot"),
        ("spot", "reserved"),
        ("reserved", "reserved"),
    ],
)
async def test_nothing_of_a_node_has_two_owners_or_two_users(database, first, second):
    await insert(database, claim(0, 10, kind=first))
    with pytest.raises(NodeTaken):
        await insert(database, claim(9, 11, kind=second))
    with pytest.raises(NodeTaken):
        await insert(database, claim(9, None, kind=second, accelerators=(7, 8)))


@pytest.mark.parametrize("user", ["reserved", "spot"])
async def test_a_reservation_lends_the_use_of_its_node(database, user):
    await insert(database, claim(0, 10, kind="reservation"), claim(2, 4, kind=user))
    assert len(await live(database)) == 2


async def test_windows_that_touch_and_accelerators_that_differ_do_not_clash(database):
    await insert(
        database,
        claim(0, 10, kind="on_demand", accelerators=(0, 4)),
        claim(0, 10, kind="on_demand", accelerators=(4, 8)),
        claim(10, 20, kind="reservation"),
    )
    assert len(await live(database)) == 3


async def test_a_refusal_undoes_its_own_insert_alone(database):
    taken = claim(0, 10, kind="reservation")
    async with database.transaction() as tx:
        await STORE.insert(tx, [taken])
        with pytest.raises(NodeTaken):
            await STORE.insert(tx, [claim(0, 5, node="node_2"), claim(3, 5, kind="on_demand")])
        await STORE.insert(tx, [other := claim(0, 5, node="node_2", kind="reservation")])
    assert await live(database) == [taken, other]


async def test_an_ended_claim_frees_its_node_from_then_on(database):
    claims = [claim(0, 10, kind="reservation"), claim(0, None, node="node_2", kind="on_demand")]
    await insert(database, *claims)
    async with database.transaction() as tx:
        await STORE.end(tx, [one.id for one in claims], at(4), released=True)
    assert await live(database, 3) == [replace(one, end=at(4), released_at=at(4)) for one in claims]
    assert await live(database, 4) == []
    await insert(database, claim(4, 6, kind="on_demand"), claim(4, None, node="node_2", kind="reservation"))


async def test_a_claim_ended_before_it_began_never_held_anything(database):
    early = claim(5, 10, kind="reservation")
    await insert(database, early)
    async with database.transaction() as tx:
        await STORE.end(tx, [early.id], at(4))
    assert await live(database) == []
    await insert(database, claim(0, 10, kind="on_demand"))
    async with database.reading() as tx:
        assert await STORE.of_holders(tx, [early.holder]) == [replace(early, void=True)]


async def test_ending_a_second_time_does_not_make_it_longer(database):
    one = claim(0, 10, kind="reservation")
    await insert(database, one)
    async with database.transaction() as tx:
        await STORE.end(tx, [one.id], at(4))
        await STORE.end(tx, [one.id], at(6))
    async with database.reading() as tx:
        assert [found.end for found in await STORE.of_holders(tx, [one.holder])] == [at(4)]


async def test_a_claim_is_extended_only_into_free_time(database):
    one = claim(0, 10, kind="reservation")
    await insert(database, one, claim(12, 14, kind="reservation"))
    async with database.transaction() as tx:
        await STORE.extend(tx, [one.id], at(12))
        with pytest.raises(NodeTaken):
            await STORE.extend(tx, [one.id], at(13))
    assert (await live(database))[0].end == at(12)


async def test_an_earlier_notice_stands_and_ends_with_the_release(database):
    one = claim(0, None, kind="spot")
    await insert(database, one)
    async with database.transaction() as tx:
        await STORE.reclaim(tx, [one.id], at(2))
        await STORE.reclaim(tx, [one.id], at(3))
        assert await STORE.reclaimed(tx, at(1)) == []
        assert await STORE.reclaimed(tx, at(2)) == [replace(one, reclaim_at=at(2))]
        await STORE.end(tx, [one.id], at(2), released=True)
        assert await STORE.reclaimed(tx, at(9)) == []


async def test_work_that_is_over_but_not_gone_is_known(database):
    over, gone = claim(0, 2, kind="on_demand"), claim(0, 2, node="node_2", kind="on_demand", released_at=at(2))
    await insert(database, over, gone, claim(0, 9, node="node_3", kind="on_demand"))
    async with database.reading() as tx:
        assert await STORE.unreleased(tx, *KEY, at(3)) == [over]


def test_levels_are_those_of_the_documents():
    assert level_of(HolderKind.RESERVATION, CapacityClass.RESERVED) == (0, 1)
    assert level_of(HolderKind.WORKLOAD, CapacityClass.RESERVED) == (1, 2)
    assert level_of(HolderKind.WORKLOAD, CapacityClass.SPOT) == (1, 2)
    assert level_of(HolderKind.WORKLOAD, CapacityClass.ON_DEMAND) == (0, 2)


some_claims = st.lists(
    st.tuples(st.integers(0, 20), st.one_of(st.none(), st.integers(1, 20)), st.sampled_from("ab"), st.booleans()),
    max_size=12,
)


@given(some_claims)
def test_a_node_with_any_part_taken_counts_once(drawn):
    claims = [
        claim(start, None if length is None else start + length, node=node, pool=pool)
        for start, length, node, pool in drawn
    ]
    spans = spans_of_nodes(claims)
    for hour in range(45):
        for node in "ab":
            for pool in (False, True):
                taken = any(one.covers(at(hour)) for one in claims if (one.node, one.pool) == (node, pool))
                own = spans.get((node, pool), [])
                assert sum(s <= at(hour) and (e is None or at(hour) < e) for s, e in own) == int(taken)
