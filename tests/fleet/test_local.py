"""One machine as several nodes: what each has, and what becomes of them when the number changes."""

import pytest

from skerry.fleet.errors import BadFleetField
from skerry.fleet.local import GONE, said, shares
from skerry.fleet.model import Accelerator, LocalFleet, Machine, Node, NodeStatus
from skerry.fleet.rules.nodes import NodeVerb
from skerry.fleet.service import Fleet
from skerry.fleet.upkeep import NodeWish
from skerry.kernel.paging import PageRequest
from skerry.server.roles.agent import local_nodes

CORES = Machine("here", 2, 8 << 30)
GPUS = Machine("here", 16, 1 << 40, tuple(Accelerator(n, "H100", 80 << 30, f"GPU-{n}") for n in range(4)))


async def start(fleet: Fleet, nodes: int, machine: Machine = CORES) -> LocalFleet:
    async with fleet.db.transaction() as tx:
        return await fleet.discover_local(tx, machine, nodes)


async def statuses(fleet: Fleet) -> dict[str, NodeStatus]:
    return {one.hostname: one.status for one in await nodes(fleet)}


async def nodes(fleet: Fleet) -> list[Node]:
    return list((await fleet.nodes(PageRequest())).data)


async def supplied(fleet: Fleet) -> int:
    async with fleet.db.reading() as tx:
        return sum(one.sellable[0].nodes for one in await fleet.supplies(tx))


async def test_each_virtual_node_has_all_cores(fleet: Fleet) -> None:
    found = await start(fleet, 3)
    assert [(one.hostname, len(one.accelerators)) for one in await nodes(fleet)] == [
        ("local-1", 2),
        ("local-2", 2),
        ("local-3", 2),
    ]
    assert (found.nodes, found.nodes_before, said(found)) == (3, 0, [])
    assert await supplied(fleet) == 3


async def test_gpus_are_shared_out_and_counted_from_zero_on_each_node(fleet: Fleet) -> None:
    await start(fleet, 2, GPUS)
    first, second = await nodes(fleet)
    assert [(one.index, one.uuid) for one in first.accelerators] == [(0, "GPU-0"), (1, "GPU-1")]
    assert [(one.index, one.uuid) for one in second.accelerators] == [(0, "GPU-2"), (1, "GPU-3")]
    assert (await fleet.sku("local")).accelerators_per_node == 2
    local = local_nodes(GPUS, 2)[1]
    assert (local.name, local.accelerators, local.on_machine((1,))) == ("local-2", (0, 1), (3,))


@pytest.mark.parametrize(("count", "words"), [(3, "choose --virtual-nodes 1 or 2 or 4"), (0, "from 1 to"), (8, "or 4")])
def test_what_cannot_be_divided_is_refused(count: int, words: str) -> None:
    with pytest.raises(BadFleetField, match=words):
        shares(GPUS, count)


async def test_fewer_nodes_are_said_and_come_back(fleet: Fleet) -> None:
    await start(fleet, 4)
    fewer = await start(fleet, 2)
    ready, gone = NodeStatus.READY, NodeStatus.CORDONED
    assert await statuses(fleet) == {"local-1": ready, "local-2": ready, "local-3": gone, "local-4": gone}
    assert ((await fleet.node("local-3")).status_reason or {})["code"] == GONE
    assert await supplied(fleet) == 2
    (line,) = said(fewer)
    assert "2 virtual nodes now; it was 4 before" in line and "`--virtual-nodes 4` has them back" in line
    assert said(await start(fleet, 2)) == []
    again = await start(fleet, 3)
    assert await statuses(fleet) == {"local-1": ready, "local-2": ready, "local-3": ready, "local-4": gone}
    assert (again.nodes_before, await supplied(fleet)) == (2, 3)


async def test_what_an_operator_has_cordoned_stays_so(fleet: Fleet) -> None:
    await start(fleet, 3)
    await fleet.upkeep.move("local-2", NodeWish(NodeVerb.CORDON, "a fan is loud"))
    await start(fleet, 1)
    await start(fleet, 3)
    ready = NodeStatus.READY
    assert await statuses(fleet) == {"local-1": ready, "local-2": NodeStatus.CORDONED, "local-3": ready}
