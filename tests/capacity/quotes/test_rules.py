"""Pools, places and energy: rules without a calendar."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from skerry.capacity.model import Leg
from skerry.capacity.rules.energy import PowerPlace, carbon, expected
from skerry.capacity.rules.places import sites_within
from skerry.capacity.rules.supply import for_reservations, known_until, pool_shares, sellable_size
from skerry.fleet.model import LeafSupply, Step
from skerry.kernel.ids import LeafId
from skerry.kernel.windows import Window
from tests.capacity.market import START, later


def supply(name, nodes, *, site="s", spares=0, planned=None):
    steps = [Step(START, nodes - spares)]
    if planned:
        steps.append(Step(later(days=30), nodes + planned - spares))
    return LeafSupply(
        LeafId(name), name, "h", site, "NO", "sku", nodes + (planned or 0), spares, tuple(steps), tuple(steps)
    )


def test_a_pool_is_taken_from_the_last_leaves_of_each_site():
    leaves = [supply("a", 8), supply("b", 8), supply("c", 8, site="t")]
    assert pool_shares(leaves, {"sku": 10}) == {("b", "sku"): 8, ("a", "sku"): 2, ("c", "sku"): 8}
    assert pool_shares(leaves, {"sku": None}) == {}
    assert pool_shares(leaves, {}) == {}


def test_a_pool_takes_no_spares():
    assert pool_shares([supply("a", 8, spares=3)], {"sku": 8}) == {("a", "sku"): 5}


def test_reservations_see_a_leaf_without_its_pool():
    leaf = for_reservations(supply("a", 8, planned=4), 10)
    assert [step.nodes for step in leaf.sellable] == [0, 2]
    assert sellable_size(leaf) == 2
    assert for_reservations(supply("a", 8), 0) == supply("a", 8)


def test_a_leaf_with_planned_nodes_is_counted_anew_on_their_day():
    assert known_until([supply("a", 8), supply("b", 8, planned=4)]) == later(days=30)
    assert known_until([supply("a", 8)]) is None


def test_jurisdictions_are_countries_or_regions_of_them():
    sites = {"oslo": "NO", "lisbon": "PT", "home": None}
    assert sites_within(sites, ()) == set(sites)
    assert sites_within(sites, ["NO"]) == {"oslo"}
    assert sites_within(sites, ["EU"]) == {"lisbon"}
    assert sites_within(sites, ["EEA"]) == {"oslo", "lisbon"}
    assert sites_within(sites, ["US"]) == set()


HOURLY = tuple(float(10 * hour) for hour in range(24))


@given(st.integers(0, 3 * 86_400), st.integers(0, 3 * 86_400), st.integers(0, 3 * 86_400))
def test_carbon_of_a_window_is_the_sum_of_its_parts(start, first, second):
    whole = carbon(start, first + second, HOURLY)
    assert abs(whole - carbon(start, first, HOURLY) - carbon(start + first, second, HOURLY)) < 1e-6


def test_carbon_is_that_of_each_hour():
    assert carbon(3 * 3600, 3600, HOURLY) == 30.0
    assert carbon(3 * 3600 + 1800, 3600, HOURLY) == 35.0
    assert carbon(0, 86_400, HOURLY) == sum(HOURLY)


def test_energy_is_power_times_pue_and_what_the_grid_emits():
    leg = Leg(LeafId("a"), "a", "h", "s", 4, Window(START, START + timedelta(hours=10)))
    places = {"s": PowerPlace(1.2, (50.0,) * 24)}
    assert expected([leg], 10_000, places) == replace(expected([], None, {}), wh=480_000, gco2e=24_000)
    assert expected([leg], None, places).wh == 0
    assert expected([leg], 10_000, {}).gco2e == 0
