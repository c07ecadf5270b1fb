"""On-demand work in the ledger that reservations stand in."""

from skerry.capacity.admission.model import NotNow, WhyNot
from skerry.capacity.claims.store import ClaimStore
from skerry.fleet.model import NodeStatus
from tests.capacity.admission.gate import at


async def test_a_node_is_given_whole_and_written_down(gate):
    host, devices = await gate.where(8, workload="wl_1")
    assert devices == tuple(range(8))
    (row,) = await gate.rows()
    assert (row.holder, row.node, row.during.upper, row.pool) == ("wl_1", gate.scene.nodes[host], None, False)


async def test_parts_share_a_node_before_another_is_begun(gate):
    first = await gate.where(4)
    assert await gate.where(2) == (first[0], (4, 5))
    assert await gate.where(1) == (first[0], (6,))
    assert (await gate.where(2))[0] != first[0]
    assert await gate.where(1) == (first[0], (7,))


async def test_who_asks_twice_gets_what_it_has(gate):
    assert await gate.where(2, workload="wl_1") == await gate.where(2, workload="wl_1")
    assert len(await gate.rows()) == 1


async def test_what_is_released_is_free_again(gate):
    for n in range(4):
        await gate.where(8, workload=f"wl_{n}")
    assert await gate.where(8) == "no_node"
    assert await gate.release("wl_2")
    assert not await gate.release("wl_2")
    gate.scene.clock.at = at(1)
    assert (await gate.where(8))[1] == tuple(range(8))


async def test_open_ended_work_takes_no_node_that_is_ever_promised(gate):
    for leaf in (0, 1):
        await gate.scene.reserve((leaf, 2, 60 * 24 * 300, 60 * 24 * 301))
    answer = await gate.admit(8)
    assert isinstance(answer, NotNow) and answer.reason is WhyNot.NO_CAPACITY
    assert "promised to others" in answer.message


async def test_work_with_an_end_uses_what_nobody_needs_until_then(gate):
    for leaf in (0, 1):
        await gate.scene.reserve((leaf, 2, 60, 120))
    assert isinstance(await gate.where(8, minutes=60), tuple)
    answer = await gate.admit(8, minutes=61)
    assert isinstance(answer, NotNow)
    assert (answer.reason, answer.estimated_start) == (WhyNot.NO_CAPACITY, at(120))


async def test_a_node_in_part_is_a_node(gate):
    """Two nodes of each leaf are promised; one that is begun may be filled up, as long as it ends in time."""
    for leaf in (0, 1):
        await gate.scene.reserve((leaf, 2, 60, 120))
    host, _ = await gate.where(1, minutes=30)
    assert (await gate.where(1, minutes=60))[0] == host
    assert await gate.where(1, minutes=90) == "no_capacity"


async def test_a_hold_that_has_lapsed_is_in_nobodys_way(gate):
    for leaf in (0, 1):
        await gate.scene.reserve((leaf, 2, 60, 120), expires_at=at(15))
    answer = await gate.admit(8, minutes=90)
    assert isinstance(answer, NotNow) and answer.estimated_start == at(120)
    gate.scene.clock.at = at(15)
    assert isinstance(await gate.where(8, minutes=90), tuple)


async def test_the_pool_is_for_open_ended_work_and_reservations_cannot_buy_it(gate):
    await gate.pool(1)
    for leaf, nodes in ((0, 2), (1, 1)):
        await gate.scene.reserve((leaf, nodes, 60, 120))
    host, _ = await gate.where(4, workload="wl_1")
    assert host.startswith("a1")
    assert (await gate.rows())[0].pool
    assert (await gate.where(4))[0] == host
    assert await gate.where(1) == "no_capacity"
    assert isinstance(await gate.where(8, minutes=30), tuple)


async def test_work_with_an_end_leaves_the_pool_alone_while_there_is_anything_else(gate):
    await gate.pool(1)
    for n in range(4):
        assert isinstance(await gate.where(8, minutes=30, workload=f"wl_{n}"), tuple)
    assert [row.pool for row in await gate.rows()].count(True) == 1
    answer = await gate.admit(8, minutes=30)
    assert isinstance(answer, NotNow) and answer.estimated_start == at(30)


async def test_spares_are_not_lent(gate):
    await gate.spares(1)
    assert isinstance(await gate.where(8), tuple) and isinstance(await gate.where(8), tuple)
    assert await gate.where(8) == "no_capacity"


async def test_a_gang_stays_in_one_leaf_or_is_not_placed(gate):
    assert await gate.hosts(8, nodes=2) in (["a0-1", "a0-2"], ["a1-1", "a1-2"])
    await gate.hosts(8)
    assert (await gate.admit(8, nodes=2)).reason is WhyNot.NO_NODE
    assert len(await gate.rows()) == 3


async def test_a_gang_takes_two_leaves_where_one_is_too_small(gate):
    assert len(await gate.hosts(4, nodes=4)) == 4


async def test_what_ends_first_says_when_there_is_room(gate):
    for n in range(4):
        await gate.where(8, minutes=10 * (n + 1))
    answer = await gate.admit(2)
    assert isinstance(answer, NotNow)
    assert (answer.reason, answer.estimated_start) == (WhyNot.NO_NODE, at(10))
    assert "Estimated start" in answer.message


async def test_only_where_the_projects_data_may_be(gate):
    assert await gate.where(1, jurisdictions=("NO",)) == "outside_jurisdiction"
    await gate.country("PT")
    assert await gate.where(1, jurisdictions=("NO",)) == "outside_jurisdiction"
    assert isinstance(await gate.where(1, jurisdictions=("NO", "EU")), tuple)


async def test_only_nodes_that_an_engine_has_and_that_fit(gate):
    assert await gate.where(8, hosts=["a0-2"]) == ("a0-2", tuple(range(8)))
    assert await gate.where(8, hosts=[]) == "no_node"
    assert await gate.where(8, sku="other") == "no_node"
    assert await gate.where(8, site="elsewhere") == "no_node"


async def test_a_leaf_that_has_lost_nodes_keeps_its_promises_first(gate):
    await gate.scene.reserve((0, 1, 60, 120))
    await gate.scene.set_node("a0-1", NodeStatus.FAILED)
    assert await gate.where(8, hosts=["a0-2"]) == "no_capacity"
    assert isinstance(await gate.where(8, hosts=["a0-2"], minutes=60), tuple)


async def test_a_node_that_is_bound_already_is_not_given_away(gate):
    reservation = await gate.scene.reserve((0, 1, 10, 120))
    await gate.scene.settle()
    bound = await gate.scene.bound(reservation)
    assert len(bound) == 1
    other = "a0-2" if bound == ["a0-1"] else "a0-1"
    assert await gate.where(8, minutes=60, hosts=["a0-1", "a0-2"]) == (other, tuple(range(8)))
    assert await gate.where(8, minutes=60, hosts=bound) in ("no_node", "no_capacity")
    gate.scene.clock.at = at(1)
    async with gate.scene.database.reading() as tx:
        assert await ClaimStore().reclaimed(tx, at(30)) == []
