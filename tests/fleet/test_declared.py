"""Applying a fleet file: all or nothing, again and again, never what is sold."""

from datetime import timedelta
from pathlib import Path

import pytest

from skerry.fleet.errors import BadFleetFile, SoldOrBound
from skerry.fleet.file.model import Action, Section
from skerry.fleet.model import Machine, Milestone, NodeStatus
from skerry.fleet.rules.nodes import NodeVerb
from skerry.fleet.service import Fleet
from skerry.fleet.upkeep import NodeWish
from skerry.kernel.clock import FakeClock
from skerry.kernel.paging import PageRequest
from tests.fleet.conftest import Sale, Sales, events_of, supplies
from tests.fleet.fleets import SMALL

NOW = FakeClock().now()
DAY = timedelta(days=1)
ALL = PageRequest(500)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "fleets"
DELIVERY = """
deliveries:
- {name: d, site: no-x, sku: h100-sxm.8x, nodes: 8, service_at: 2026-06-01, hall: a, leaf_size: 4, leaf_prefix: n}
"""


@pytest.fixture
async def small(fleet: Fleet) -> Fleet:
    await fleet.declared.apply(SMALL)
    return fleet


def seen(plan):
    return [(change.action, change.section, change.name, change.count) for change in plan.changes]


async def names(page):
    return [getattr(row, "name", None) or row.hostname for row in (await page).data]


async def test_a_plan_shows_what_would_be_and_changes_nothing(fleet: Fleet):
    plan = await fleet.declared.plan(SMALL)
    assert seen(plan) == [
        (Action.ADD, Section.SKUS, "h100-sxm.8x", 1),
        (Action.ADD, Section.SITES, "no-x", 1),
        (Action.ADD, Section.HALLS, "a", 1),
        (Action.ADD, Section.LEAVES, "a-1", 1),
        (Action.ADD, Section.LEAVES, "a-2", 1),
        (Action.ADD, Section.NODES, "a-1-[1-4]", 4),
        (Action.ADD, Section.NODES, "a-2-[1-4]", 4),
    ]
    assert not plan.applied and not (await fleet.sites(ALL)).data
    assert not await events_of(fleet, "fleet")


async def test_applying_makes_what_the_plan_said(fleet: Fleet):
    plan = await fleet.declared.plan(SMALL)
    applied = await fleet.declared.apply(SMALL)
    assert applied.applied and applied.changes == plan.changes
    node = await fleet.node("a-1-3")
    assert (node.status, node.sku, node.leaf, len(node.accelerators)) == (
        NodeStatus.READY,
        "h100-sxm.8x",
        "a-1",
        8,
    )
    assert (node.accelerators[7].type, node.accelerators[7].memory_bytes) == ("H100-SXM", 80 * 10**9)
    sku = await fleet.sku("h100-sxm.8x")
    assert (sku.tdp_w, sku.on_demand_nodes) == (10_200, None) and sku.sources["tdp_w"]
    (event,) = await events_of(fleet, "fleet")
    assert (event.type, event.data["counts"]["add"]) == ("fleet.applied", 13)


async def test_applying_again_changes_nothing(small: Fleet):
    before = await small.nodes(ALL)
    again = await small.declared.apply(SMALL)
    assert again.changes == () and await small.nodes(ALL) == before
    assert len(await events_of(small, "fleet")) == 1


@pytest.mark.parametrize("example", ["one-site", "four-sites"])
async def test_examples_are_applied_once(fleet: Fleet, example):
    text = (EXAMPLES / f"{example}.yaml").read_text()
    plan = await fleet.declared.apply(text)
    assert not plan.refused and not plan.warnings
    assert (await fleet.declared.plan(text, prune=True)).changes == ()


async def test_this_machine_is_described_without_being_changed(fleet: Fleet):
    async with fleet.db.transaction() as tx:
        await fleet.discover_local(tx, Machine("here", 2, 8 << 30))
    text = (EXAMPLES / "this-machine.yaml").read_text()
    await fleet.declared.apply(text, prune=True)
    assert ((await fleet.site("local")).country, (await fleet.sku("local")).idle_w) == ("NO", 40)
    assert await names(fleet.nodes(ALL)) == ["local-1"]
    assert (await fleet.declared.plan("", prune=True)).changes == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("skus: [{name: local, cpu: 5}]", [(1, "discovered")]),
        ("nodes:\n- {hostname: local-1, sku: local, leaf: local}", [(2, "discovered")]),
    ],
)
async def test_what_discovery_found_is_not_declared(fleet: Fleet, text, found):
    async with fleet.db.transaction() as tx:
        await fleet.discover_local(tx, Machine("here", 2, 8 << 30))
    with pytest.raises(BadFleetFile) as refused:
        await fleet.declared.plan(text)
    assert [(line["line"], line["code"]) for line in refused.value.extra["lines"]] == found


async def test_changes_show_before_and_after(small: Fleet):
    text = SMALL.replace("pue: 1.1", "pue: 1.2").replace("spares: 1", "spares: 2").replace("a-2-[1-4]", "a-2-[1-6]")
    plan = await small.declared.apply(text)
    fields = {change.name: dict(change.fields) for change in plan.changes}
    assert [str(value) for value in fields["no-x"]["pue"]] == ["1.1", "1.2"]
    assert fields["a-1"] == {"spares": (1, 2)}
    assert seen(plan)[-1] == (Action.ADD, Section.NODES, "a-2-[5-6]", 2)
    assert (await supplies(small))["a-1"].sellable[0].nodes == 2


async def test_fields_that_are_not_given_stay_and_null_clears(small: Fleet):
    await small.declared.apply("sites: [{name: no-x, grid_zone: null}]")
    site = await small.site("no-x")
    assert (site.country, site.grid_zone, str(site.pue)) == ("NO", None, "1.1")


async def test_carbon_is_the_files_or_the_zones(small: Fleet):
    site = await small.site("no-x")
    assert site.carbon is not None and site.carbon.estimated and site.carbon.at(NOW) == 49
    await small.declared.apply("sites: [{name: no-x, carbon: {g_per_kwh: 7.5}, carbon_source: our meter}]")
    own = (await small.site("no-x")).carbon
    assert own is not None and (str(own.at(NOW)), own.source, own.estimated) == ("7.5", "our meter", False)


async def test_every_mistake_is_told_and_nothing_applied(small: Fleet):
    text = """
sites: [{name: no-y}]
halls:
- {name: b, site: nowhere}
leaves:
- {name: b-1}
nodes:
- {hostname: "b-1-[1-9]", sku: unheard.of, leaf: b-1}
- {hostname: a-1-1, sku: h100-sxm.8x, leaf: b-9}
"""
    with pytest.raises(BadFleetFile) as refused:
        await small.declared.apply(text)
    assert [(line["line"], line["code"]) for line in refused.value.extra["lines"]] == [
        (4, "unknown_site"),
        (6, "missing"),
        (8, "unknown_sku"),
        (9, "unknown_leaf"),
    ]
    assert "line 4" in {error.path for error in refused.value.errors}
    assert await names(small.sites(ALL)) == ["no-x"]


async def test_a_new_sku_says_what_it_is(small: Fleet):
    with pytest.raises(BadFleetFile) as refused:
        await small.declared.plan("skus: [{name: mine, cpu: 4}]")
    missing = {line["path"].partition(".")[2] for line in refused.value.extra["lines"]}
    assert missing == {"accelerator", "accelerators_per_node", "memory"}


WITHOUT_A_2 = SMALL.replace('- {hostname: "a-2-[1-4]", sku: h100-sxm.8x, leaf: a-2}\n', "")


async def test_what_is_not_named_stays_unless_pruned(small: Fleet):
    text = WITHOUT_A_2.replace("- {name: a-2, hall: a}\n", "")
    assert (await small.declared.plan(text)).changes == ()
    plan = await small.declared.apply(text, prune=True)
    assert seen(plan) == [
        (Action.REMOVE, Section.NODES, "a-2-[1-4]", 4),
        (Action.REMOVE, Section.LEAVES, "a-2", 1),
    ]
    assert await names(small.leaves(ALL)) == ["a-1"] and len((await small.nodes(ALL)).data) == 4


async def test_pruning_everything_leaves_nothing_behind(small: Fleet):
    window = "maintenance:\n- {leaf: a-1, sku: h100-sxm.8x, nodes: 1, start: 2026-02-01, end: 2026-02-02, reason: r}\n"
    await small.declared.apply(SMALL + DELIVERY + window)
    await small.upkeep.check("a-1-1", "dcgm", None, ok=True, detail="")
    plan = await small.declared.apply("", prune=True)
    assert plan.counts()[Action.REMOVE] == 8 + 4 + 1 + 1 + 1 + 1 + 1
    for page in (small.sites, small.halls, small.leaves, small.skus, small.nodes):
        assert not (await page(ALL)).data


async def test_what_is_sold_is_never_pruned(small: Fleet, sales: Sales):
    sales.sales.append(Sale("res_1", "a-2", 1, NOW + DAY, NOW + 2 * DAY))
    plan = await small.declared.plan(WITHOUT_A_2, prune=True)
    assert plan.refused == ("res_1 lacks 1 in a-2",)
    with pytest.raises(SoldOrBound) as refused:
        await small.declared.apply(WITHOUT_A_2, prune=True)
    assert [error.message for error in refused.value.errors] == ["res_1 lacks 1 in a-2"]
    assert len((await small.nodes(ALL)).data) == 8


async def test_what_was_short_before_does_not_stand_in_the_way(small: Fleet, sales: Sales):
    sales.sales.append(Sale("res_1", "a-1", 9, NOW + DAY, NOW + 2 * DAY))
    assert not (await small.declared.apply(WITHOUT_A_2, prune=True)).refused


async def test_a_node_that_is_bound_is_neither_removed_nor_moved(small: Fleet, sales: Sales):
    sales.held[(await small.node("a-2-1")).id] = "bound to res_1"
    moved = SMALL.replace('a-2-[1-4]", sku: h100-sxm.8x, leaf: a-2', 'a-2-[1-4]", sku: h100-sxm.8x, leaf: a-1')
    assert (await small.declared.plan(moved)).refused == ("a-2-1 is bound to res_1",)
    assert (await small.declared.plan(WITHOUT_A_2, prune=True)).refused == ("a-2-1 is bound to res_1",)


async def test_maintenance_that_breaks_a_promise_is_refused(small: Fleet, sales: Sales):
    sales.sales.append(Sale("res_1", "a-2", 4, NOW + DAY, NOW + 2 * DAY))
    row = "{leaf: a-2, sku: h100-sxm.8x, nodes: 1, start: 2026-01-02, end: 2026-01-03, reason: fans}"
    assert (await small.declared.plan(f"maintenance: [{row}]")).refused
    later = row.replace("2026-01-02", "2026-01-03").replace("end: 2026-01-03", "end: 2026-01-04")
    assert (await small.declared.apply(f"maintenance: [{later}]")).counts()[Action.ADD] == 1
    assert (await small.declared.apply(f"maintenance: [{later}]")).changes == ()


async def test_a_node_that_moves_counts_where_it_is(small: Fleet):
    text = SMALL.replace('a-2-[1-4]", sku: h100-sxm.8x, leaf: a-2', 'a-2-[1-4]", sku: h100-sxm.8x, leaf: a-1')
    plan = await small.declared.apply(text)
    assert seen(plan) == [(Action.CHANGE, Section.NODES, "a-2-[1-4]", 4)]
    assert (await supplies(small))["a-1"].size == 8 and "a-2" not in await supplies(small)


async def test_the_file_says_who_is_new_and_the_operator_what_state_they_are_in(small: Fleet):
    await small.upkeep.move("a-1-1", NodeWish(NodeVerb.FAIL, "dead"))
    assert (await small.declared.apply(SMALL)).changes == ()
    line = "- {hostname: a-1-5, sku: h100-sxm.8x, leaf: a-1, status: registering}\n"
    await small.declared.apply(SMALL + line)
    assert (await small.node("a-1-5")).status is NodeStatus.REGISTERING
    await small.declared.apply(SMALL + line.replace("registering", "ready"))
    assert (await small.node("a-1-5")).status is NodeStatus.READY


async def test_a_sku_that_changes_changes_the_accelerators_of_its_new_nodes_only_when_moved(small: Fleet):
    text = SMALL.replace("skus: [", "skus: [{name: l40s.8x}, ").replace(
        'a-2-[1-4]", sku: h100-sxm.8x', 'a-2-[1-4]", sku: l40s.8x'
    )
    await small.declared.apply(text)
    assert (await small.node("a-2-1")).accelerators[0].type == "L40S"
    await small.declared.apply(text.replace("leaf: a-2}", "leaf: a-2, accelerators: 4}"))
    assert len((await small.node("a-2-4")).accelerators) == 4


async def test_a_slip_is_a_fact_that_says_whom_it_makes_late(small: Fleet, sales: Sales):
    await small.declared.apply(SMALL + DELIVERY)
    june = NOW.replace(month=6)
    sales.sales.append(Sale("res_1", "n-1", 4, june, june + DAY))
    plan = await small.declared.apply(SMALL + DELIVERY.replace("2026-06-01", "2026-07-01"))
    assert [(one.reservation, one.nodes_short) for one in plan.late] == [("res_1", 4)] and not plan.refused
    assert (await small.deliveries.get("d")).service_at == NOW.replace(month=7)
    assert (await small.declared.plan(SMALL, prune=True)).refused == ()  # late already: it gets no worse


async def test_a_delivery_is_not_pruned_from_under_a_promise(small: Fleet, sales: Sales):
    await small.declared.apply(SMALL + DELIVERY)
    june = NOW.replace(month=6)
    sales.sales.append(Sale("res_1", "n-2", 1, june, june + DAY))
    assert (await small.declared.plan(SMALL, prune=True)).refused == ("res_1 lacks 1 in n-2",)


async def test_nodes_that_arrive_and_the_word_that_they_have_come_in_one_file(
    small: Fleet, sales: Sales, clock: FakeClock
):
    await small.declared.apply(SMALL + DELIVERY)
    june = NOW.replace(month=6)
    sales.sales.append(Sale("res_1", "n-1", 4, june, june + DAY))
    clock.advance(days=140)
    reached = ", ".join(f"{name}: {{reached: 2026-05-01}}" for name in Milestone)
    accepted = DELIVERY.replace("leaf_prefix: n}", f"leaf_prefix: n, milestones: {{{reached}}}}}")
    assert (await small.declared.plan(SMALL + accepted)).refused == ("res_1 lacks 4 in n-1",)
    node = "".join(f'- {{hostname: "n-{n}-[1-4]", sku: h100-sxm.8x, leaf: n-{n}, delivery: d}}\n' for n in (1, 2))
    plan = await small.declared.apply(SMALL + node + accepted)
    assert not plan.refused and (await small.deliveries.get("d")).accepted
    assert (await small.declared.plan(SMALL + node, prune=True)).changes == ()  # history is not pruned


async def test_more_power_than_the_site_has_is_a_warning(small: Fleet):
    plan = await small.declared.apply(SMALL.replace("pue: 1.1", "pue: 1.1, power_cap_kw: 80"))
    assert plan.warnings == ("no-x has 80 kW, and its nodes may draw 90 kW, PUE included",)


async def test_two_who_apply_at_once_do_it_one_after_the_other(fleet: Fleet):
    import asyncio

    plans = await asyncio.gather(*(fleet.declared.apply(SMALL) for _ in range(3)))
    assert sorted(len(plan.changes) for plan in plans) == [0, 0, 7]
