"""What a fleet file may say, and how its mistakes are told: all at once, each with its line."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from skerry.fleet.catalogue import CATALOGUE
from skerry.fleet.file.model import Section
from skerry.fleet.file.parse import parse
from skerry.fleet.model import Milestone, MilestoneDates
from skerry.kernel.clock import FakeClock

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "fleets"
ISSUE = """
skus:   [{name: h100.8x, accelerator: H100-SXM, accelerators_per_node: 8, cpu: 192, memory: 2048GiB, nvlink: true,
          tdp_w: 10200, idle_w: 2300}]
sites:  [{name: no-glomfjord, country: NO, grid_zone: NO4, pue: 1.1, power_cap_kw: 800}]
halls:  [{name: no-a, site: no-glomfjord}]
leaves: [{name: no-a-1, hall: no-a, fabric: infiniband, spares: 1}]
nodes:  [{hostname: "no-a-1-[01-32]", sku: h100.8x, leaf: no-a-1}]
"""


def read(text, clock=None):
    return parse(text, clock or FakeClock())


def mistakes(text):
    return [(one.line, one.code) for one in read(text)[1]]


def test_the_form_of_the_issue():
    document, wrong = read(ISSUE)
    assert not wrong
    assert document.of(Section.SITES)["no-glomfjord"].fields == {
        "country": "NO",
        "grid_zone": "NO4",
        "pue": Decimal("1.1"),
        "power_cap_kw": Decimal(800),
    }
    assert document.of(Section.SKUS)["h100.8x"].fields["memory"] == 2048 * 2**30
    nodes = document.of(Section.NODES)
    assert len(nodes) == 32 and nodes["no-a-1-32"].fields == {"sku": "h100.8x", "leaf": "no-a-1"}


def test_norway_is_no_boolean():
    (site,) = read("sites: [{name: on, country: NO}]")[0].of(Section.SITES).values()
    assert (site.name, site.fields["country"]) == ("on", "NO")


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_can_be_read(example):
    document, wrong = read(example.read_text())
    assert not wrong
    assert document.of(Section.SITES)


def test_the_large_example_has_12_500_nodes_in_391_leaves_of_four_sites():
    document, _ = read((EXAMPLES / "four-sites.yaml").read_text())
    leaves = {entry.fields["leaf"] for entry in document.of(Section.NODES).values()}
    assert (len(document.of(Section.NODES)), len(leaves), len(document.of(Section.SITES))) == (12_500, 391, 4)


def test_a_sku_of_the_catalogue_needs_its_name_only():
    document, _ = read("skus: [{name: h100-sxm.8x, idle_w: 1800}]")
    fields = document.of(Section.SKUS)["h100-sxm.8x"].fields
    assert (fields["tdp_w"], fields["idle_w"], fields["accelerators_per_node"]) == (10_200, 1_800, 8)
    assert "tdp_w" in fields["sources"] and "idle_w" not in fields["sources"]


def test_every_figure_of_the_catalogue_has_a_source():
    assert {"H100", "H200", "B200", "GB200", "MI300X", "Gaudi", "L40S", "cpu"} == {
        sku.accelerator.removesuffix("-SXM").removesuffix("-3") for sku in CATALOGUE
    }
    for sku in CATALOGUE:
        assert sku.idle_w < sku.tdp_w
        told = {"cpu", "memory", "tdp_w", "idle_w"} | ({"accelerator_memory"} if sku.accelerator_memory else set())
        assert set(sku.sources) == told, sku.name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("# nothing", []),
        ("sites:", []),
        ("just words", [(1, "not_a_fleet")]),
        ("sites: {name: a}", [(1, "not_a_list")]),
        ("sites: [a]", [(1, "not_a_mapping")]),
        ("sites:\n- {name: a\n- b", [(3, "not_yaml")]),
        ("sites: []\n---\nsites: []", [(2, "several_documents")]),
        ("racks: []", [(1, "unknown_section")]),
        ("sites:\n- name: a\n  colour: red", [(3, "unknown_field")]),
        ("sites:\n- name: a\n  name: b", [(3, "duplicate_key")]),
        ("sites:\n- country: NO", [(2, "missing")]),
        ("sites:\n- name: a\n- name: a", [(3, "duplicate_name")]),
        ("sites:\n- {name: a b}", [(2, "bad_name")]),
        ("sites:\n- {name: site_1}", [(2, "bad_name")]),
        ("sites:\n- {name: a, country: Norway}", [(2, "bad_country")]),
        ("sites:\n- {name: a, pue: 0.9}", [(2, "bad_pue")]),
        ("sites:\n- {name: a, power_cap_kw: -5}", [(2, "bad_power_cap_kw")]),
        ("sites:\n- {name: a, power_cap_kw: .nan}", [(2, "bad_power_cap_kw")]),
        ("sites:\n- {name: a, energy_price: 3}", [(2, "bad_energy_price")]),
        ("sites:\n- {name: a, carbon: {hourly: [1, 2]}}", [(2, "bad_carbon")]),
        ("skus:\n- {name: a, tdp_w: -1}", [(2, "bad_tdp_w")]),
        ("skus:\n- {name: a, tdp_w: 1.5}", [(2, "bad_tdp_w")]),
        ("skus:\n- {name: a, tdp_w: 100, idle_w: 200}", [(2, "idle_above_tdp")]),
        ("skus:\n- {name: a, memory: lots}", [(2, "bad_memory")]),
        ("skus:\n- {name: a, cpu: }", [(2, "bad_cpu")]),
        ("leaves:\n- {name: a, hall: h, spares: -1}", [(2, "bad_spares")]),
        ("nodes:\n- {hostname: 'a-[3-1]', sku: s, leaf: l}", [(2, "bad_hostname")]),
        ("nodes:\n- {hostname: a, sku: s, leaf: l}\n- {hostname: a, sku: s, leaf: l}", [(3, "duplicate_host")]),
        ("nodes:\n- {hostname: a}", [(2, "missing"), (2, "missing")]),
        ("nodes:\n- {hostname: a, sku: s, leaf: l, status: broken}", [(2, "bad_status")]),
        ("sites: &a\n- *a", [(2, "cycle")]),
        ("sites:\n- &a {name: x, carbon: *a}", [(2, "cycle")]),
        ("sites:\n- *nowhere", [(2, "not_yaml")]),
        ("sites:\n- !!python/object:os.system {}", [(2, "tag")]),
        ("sites: " + "[" * 500, [(1, "too_deep")]),
        ("sites: [\x00]", [(1, "not_yaml")]),
        (
            "maintenance:\n- {leaf: l, sku: s, nodes: 1, start: 2026-02-02, end: 2026-02-01, reason: r}",
            [(2, "end_before_start")],
        ),
        ("maintenance:\n- {leaf: l, sku: s, nodes: 0, start: x, end: 2026-02-01, reason: r}", None),
    ],
)
def test_mistakes_and_their_lines(text, found):
    if found is None:
        assert mistakes(text) == [(2, "bad_nodes"), (2, "bad_start")]
    elif text.endswith("*nowhere"):
        assert mistakes(text)[0][0] == 2
    else:
        assert mistakes(text) == found


def test_all_mistakes_are_told_at_once():
    text = "sites:\n- {name: a, pue: 0}\n- {name: b, country: x}\nskus:\n- {name: s, tdp_w: -4}\n"
    assert [line for line, _ in mistakes(text)] == [2, 3, 5]


DELIVERY = "deliveries:\n- {name: d, site: s, sku: k, nodes: 70, service_at: 2027-01-01"


def test_a_delivery_makes_its_leaves():
    document, wrong = read(DELIVERY + ", hall: h, leaf_size: 32, leaf_prefix: new}")
    assert not wrong
    assert document.of(Section.DELIVERIES)["d"].fields["leaves"] == {"new-1": 32, "new-2": 32, "new-3": 6}
    assert document.of(Section.LEAVES)["new-3"].fields == {"hall": "h"}


def test_milestones_have_plans_and_dates():
    text = DELIVERY + ", leaves: {l: 70}, milestones: {ordered: {reached: 2025-12-01}, delivered: 2026-11-01}}"
    document, wrong = read(text)
    assert not wrong
    assert document.of(Section.DELIVERIES)["d"].fields["milestones"] == {
        Milestone.ORDERED: MilestoneDates(None, datetime(2025, 12, 1, tzinfo=UTC)),
        Milestone.DELIVERED: MilestoneDates(datetime(2026, 11, 1, tzinfo=UTC), None),
    }


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("}", "no_place"),
        (", leaves: {l: 60}}", "other_count"),
        (", leaves: {l: 70}, confidence: 1.2}", "bad_confidence"),
        (", leaves: {l: 70}, milestones: {shipped: 2026-01-01}}", "bad_milestones"),
        (", leaves: {l: 70}, milestones: {ordered: {reached: 2027-01-01}}}", "milestone_out_of_order"),
        (", leaves: {l: 70}, milestones: {delivered: {reached: 2025-01-01}}}", "milestone_out_of_order"),
        (", leaves: {l: 70}, milestones: {ordered: 2026-05-01, delivered: 2026-04-01}}", "milestone_out_of_order"),
    ],
)
def test_a_delivery_that_cannot_be(more, code):
    assert mistakes(DELIVERY + more) == [(2, code)]


def test_maintenance_that_is_over_is_history():
    text = "maintenance:\n- {leaf: l, sku: s, nodes: 1, start: 2025-02-01, end: 2025-02-02, reason: r}"
    document, wrong = read(text)
    assert not wrong and not document.of(Section.MAINTENANCE)


def test_aliases_share_what_they_name():
    text = "sites:\n- &a {name: a, country: NO}\n- {<<: *a, name: b}"
    document, wrong = read(text)
    assert not wrong
    assert document.of(Section.SITES)["b"].fields == {"country": "NO"}


def test_many_aliases_are_read_in_no_time():
    lists = "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 10))
    _, wrong = read(f"x0: &x0 [a]\n{lists}\n")
    assert {one.code for one in wrong} == {"unknown_section"}
