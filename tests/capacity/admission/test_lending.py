"""Inside reservations, and spot work on what they do not use."""

import pytest

from skerry.capacity.admission.model import AdmissionRequest, NotNow, WhyNot
from tests.capacity.admission.gate import ON_DEMAND, RESERVED, SPOT, at


@pytest.fixture
async def reservation(gate):
    """All of leaf 0, from minute 5 to minute 65, and its nodes are bound."""
    id = await gate.scene.reserve((0, 2, 5, 65))
    await gate.scene.until(5)
    return id


async def test_work_inside_a_reservation_takes_its_nodes_until_it_ends(gate, reservation):
    host, _ = await gate.where(4, kind=RESERVED, reservation=reservation)
    assert host.startswith("a0")
    assert await gate.where(4, kind=RESERVED, reservation=reservation) == (host, (4, 5, 6, 7))
    used = [row for row in await gate.rows() if row.holder_kind == "workload"]
    assert {(row.during.upper, row.reclaim_at) for row in used} == {(at(65), at(65))}
    await gate.where(8, kind=RESERVED, reservation=reservation)
    answer = await gate.admit(1, kind=RESERVED, reservation=reservation)
    assert isinstance(answer, NotNow)
    assert (answer.reason, answer.estimated_start) == (WhyNot.RESERVATION_FULL, at(65))


async def test_another_projects_reservation_is_nobodys(gate, reservation):
    assert await gate.where(1, kind=RESERVED, reservation=reservation, project="proj_2") == "reservation_not_ready"


async def test_a_reservation_that_has_not_begun_says_when_it_does(gate):
    id = await gate.scene.reserve((0, 1, 60, 120))
    answer = await gate.admit(1, kind=RESERVED, reservation=id)
    assert isinstance(answer, NotNow)
    assert (answer.reason, answer.estimated_start) == (WhyNot.RESERVATION_NOT_READY, at(60))


async def test_on_demand_work_never_stands_on_a_reserved_node(gate, reservation):
    assert {(await gate.where(8, minutes=5))[0], (await gate.where(8, minutes=5))[0]} == {"a1-1", "a1-2"}
    assert await gate.where(1, minutes=5) == "no_node"


async def test_spot_work_uses_a_reservation_that_lies_idle(gate, reservation):
    hosts = {(await gate.where(8, kind=SPOT))[0] for _ in range(4)}
    assert hosts == {"a0-1", "a0-2", "a1-1", "a1-2"}
    assert await gate.where(1, kind=SPOT) == "no_node"


async def test_spot_work_keeps_off_nodes_that_their_owner_uses(gate, reservation):
    host, _ = await gate.where(1, kind=RESERVED, reservation=reservation)
    assert await gate.where(1, kind=SPOT, hosts=[host]) == "no_node"


async def test_the_owner_gets_its_node_back_within_the_notice(gate, reservation):
    for host in ("a0-1", "a0-2"):
        assert await gate.where(8, kind=SPOT, hosts=[host], workload=f"wl_{host}") == (host, tuple(range(8)))
    answer = await gate.admit(8, kind=RESERVED, reservation=reservation, workload="wl_owner")
    assert isinstance(answer, NotNow)
    assert (answer.reason, answer.estimated_start) == (WhyNot.RECLAIMING, at(6))
    (leaving,) = await gate.leaving()
    assert (leaving.by, leaving.noticed, leaving.capacity_class) == (at(6), True, SPOT)
    gate.scene.clock.at = at(5.5)
    await gate.release(leaving.workload)
    assert await gate.leaving() == []
    host, _ = await gate.where(8, kind=RESERVED, reservation=reservation, workload="wl_owner")
    assert leaving.workload == f"wl_{host}"


async def test_on_demand_work_displaces_spot_work_only_where_nothing_else_is_free(gate):
    await gate.where(8, kind=SPOT, hosts=["a0-1"], workload="wl_spot")
    for _ in range(3):
        assert (await gate.where(8))[0] != "a0-1"
    assert await gate.leaving() == []
    assert await gate.where(8) == "reclaiming"
    assert [one.workload for one in await gate.leaving()] == ["wl_spot"]
    assert await gate.where(8) == "reclaiming"
    assert [one.by for one in await gate.leaving()] == [at(1)]


async def test_spot_work_is_told_to_leave_before_a_reservation_begins(gate):
    await gate.where(8, kind=SPOT, hosts=["a0-1"], workload="wl_1")
    await gate.where(8, kind=SPOT, hosts=["a0-2"], workload="wl_2")
    await gate.scene.reserve((0, 2, 10, 70))
    await gate.scene.settle()
    assert {one.workload: one.by for one in await gate.leaving()} == {}
    gate.scene.clock.at = at(9.5)
    assert {one.workload: one.by for one in await gate.leaving()} == {"wl_1": at(10), "wl_2": at(10)}


async def test_who_is_under_notice_gets_no_new_neighbours(gate):
    await gate.where(4, kind=SPOT, hosts=["a0-1"])
    for host in ("a0-2", "a1-1", "a1-2"):
        await gate.where(8, hosts=[host])
    assert await gate.where(8) == "reclaiming"
    assert await gate.where(2, kind=SPOT) == "no_node"


async def test_work_whose_time_is_over_is_leaving(gate):
    await gate.where(8, minutes=30, workload="wl_1")
    assert await gate.leaving(10) == []
    gate.scene.clock.at = at(29.9)
    (leaving,) = await gate.leaving(10)
    assert (leaving.workload, leaving.by, leaving.noticed) == ("wl_1", at(30), False)
    gate.scene.clock.at = at(31)
    assert [one.workload for one in await gate.leaving()] == ["wl_1"]
    await gate.release("wl_1")
    assert await gate.leaving() == []


@pytest.mark.parametrize(
    "values", [{"accelerators": 0}, {"nodes": 0}, {"capacity_class": RESERVED}, {"reservation": "res_1"}]
)
def test_a_request_that_makes_no_sense_is_refused(values):
    usual = {"project": "p", "workload": "w", "capacity_class": ON_DEMAND, "accelerators": 1, "hosts": ()}
    with pytest.raises(ValueError):
        AdmissionRequest(**(usual | values))


def test_every_reason_says_what_to_do():
    assert all(reason.advice for reason in WhyNot)
