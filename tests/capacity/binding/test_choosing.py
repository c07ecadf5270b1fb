"""Nodes for legs: a colouring always exists where counts fit (I5), whatever begins when, and little moves."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.capacity.binding.rules.choosing import Held, Need, Place, assign
from skerry.kernel.clock import FakeClock

T0 = FakeClock().now()
HOUR = timedelta(hours=1)


def at(hours):
    return T0 + hours * HOUR


def places(count, **changed):
    """Nodes n0, n1, …; `n1="takes"` says that n1 does not take."""
    found = [Place(f"n{number}") for number in range(count)]
    return [replace(one, **{changed[one.node]: one.node == "avoid"}) if one.node in changed else one for one in found]


def need(leg, nodes, start, end, reservation=None):
    return Need(leg, reservation or f"res_{leg}", nodes, at(start), at(end), "proj_1")


def held(node, start, end, leg=None):
    reservation = None if leg is None else f"res_{leg}"
    return Held(f"{leg}@{node}", node, at(start), None if end is None else at(end), reservation, leg)


def nodes_of(plan, leg=None):
    return [one.node for one in plan.begin if leg in (None, one.leg)]


def test_a_leg_gets_neighbours_from_the_tightest_run_that_fits():
    taken = [held("n2", 0, 9), held("n6", 0, 9)]  # free runs: n0–n1, n3–n5, n7–n9
    plan = assign(places(10), taken, [need("a", 2, 1, 5)], at(0))
    assert nodes_of(plan) == ["n0", "n1"]
    plan = assign(places(10), taken, [need("a", 4, 1, 5)], at(0))
    assert nodes_of(plan) == ["n3", "n4", "n5", "n0"]


def test_what_is_bound_stays():
    bound = [held("n4", 1, 5, "a"), held("n7", 1, 5, "a")]
    plan = assign(places(10), bound, [need("a", 2, 1, 5)], at(0))
    assert not plan.changes
    assert not plan.short


def test_a_second_leg_stays_on_the_nodes_of_the_first():
    first = [held(node, 0, 5, "a") for node in ("n3", "n4")]
    needs = [need("a", 2, 0, 5, "res"), need("b", 3, 5, 9, "res")]
    plan = assign(places(10), first, needs, at(4), previous={"res": ["n3", "n4"]})
    assert nodes_of(plan) == ["n3", "n4", "n2"]
    assert {one.start for one in plan.begin} == {at(5)}


def test_what_is_not_ours_to_move_is_gone_round():
    taken = [held("n0", 0, None), held("n1", 0, 3)]
    plan = assign(places(3), taken, [need("a", 2, 3, 5)], at(2))
    assert nodes_of(plan) == ["n1", "n2"]


def test_a_node_that_is_just_being_left_is_taken_last():
    room = [Place("n0", avoid=True), Place("n1"), Place("n2")]
    assert nodes_of(assign(room, [], [need("a", 2, 0, 5)], at(0))) == ["n1", "n2"]
    assert nodes_of(assign(room, [], [need("a", 3, 0, 5)], at(0))) == ["n1", "n2", "n0"]


def test_what_is_bound_early_gives_way_to_what_begins_sooner():
    bound = [held("n0", 0, 5, "x"), held("n1", 10, 20, "a")]
    needs = [need("x", 1, 0, 5), need("a", 1, 10, 20), need("late", 1, 1, 30)]
    plan = assign(places(2), bound, needs, at(1))
    assert nodes_of(plan, "late") == ["n1"]
    assert nodes_of(plan, "a") == ["n0"]
    assert plan.end == ["a@n1"]
    assert not plan.short


def test_a_node_that_is_lost_is_replaced_from_now_on():
    room = [Place("n0"), Place("n1", takes=False, keeps=False), Place("n2")]
    plan = assign(room, [held("n0", 0, 9, "a"), held("n1", 0, 9, "a")], [need("a", 2, 0, 9)], at(4))
    assert plan.end == plan.lost == ["a@n1"]
    assert [(one.node, one.start, one.end) for one in plan.begin] == [("n2", at(4), at(9))]


def test_without_a_spare_the_lost_node_is_short():
    room = [Place("n0"), Place("n1", takes=False, keeps=False)]
    plan = assign(room, [held("n0", 0, 9, "a"), held("n1", 0, 9, "a")], [need("a", 2, 0, 9)], at(4))
    assert plan.lost == ["a@n1"]
    assert plan.short == {"a": 1}


def test_a_drain_moves_what_has_not_begun_and_nothing_else():
    room = [Place("n0", takes=False), Place("n1", takes=False), Place("n2")]
    bound = [held("n0", 0, 9, "a"), held("n1", 5, 9, "b")]
    plan = assign(room, bound, [need("a", 1, 0, 9), need("b", 1, 5, 9)], at(4))
    assert plan.end == ["b@n1"]
    assert nodes_of(plan) == ["n2"]
    assert not plan.lost


def test_what_became_longer_stays_where_it_is_and_others_move():
    bound = [held("n0", 0, 5, "a"), held("n0", 5, 9, "b")]
    plan = assign(places(2), bound, [need("a", 1, 0, 7), need("b", 1, 5, 9)], at(4))
    assert plan.stretch == {"a@n0": at(7)}
    assert plan.end == ["b@n0"]
    assert nodes_of(plan) == ["n1"]


@pytest.mark.parametrize("nodes", [1, 2])
def test_what_became_smaller_gives_back(nodes):
    bound = [held(node, 0, 9, "a") for node in ("n0", "n1", "n2")]
    plan = assign(places(3), bound, [need("a", nodes, 0, 9)], at(4))
    assert len(plan.end) == 3 - nodes
    assert not plan.begin
    assert not plan.lost


def test_what_is_no_longer_wanted_ends():
    plan = assign(places(3), [held("n0", 0, 9, "a"), held("n1", 6, 9, "b")], [], at(4))
    assert plan.end == ["a@n0", "b@n1"]


SIZE, LAST = 5, 24
arrivals = st.lists(
    st.tuples(
        st.integers(0, LAST - 1),  # made at
        st.integers(0, 8),  # starts so much later
        st.integers(1, 10),  # lasts
        st.integers(1, SIZE),  # nodes
        st.booleans(),  # on demand: starts at once, on named nodes
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(arrivals, st.integers(0, 4))
def test_where_counts_fit_there_are_nodes_and_nothing_that_has_begun_moves(drawn, lead):
    """Requests come over time, are admitted by counts alone, and are bound `lead` before they start."""
    promised = [0] * (LAST + 20)
    legs, taken = [], []
    for hour in range(LAST + 20):
        for number, (made, later, length, nodes, on_demand) in enumerate(drawn):
            start = hour if on_demand else hour + later
            window = range(start, start + length)
            if made != hour or start + length > len(promised) or any(promised[h] + nodes > SIZE for h in window):
                continue
            if on_demand:
                free = [p.node for p in places(SIZE) if not any(clash(one, p.node, window) for one in taken)]
                if len(free) < nodes:
                    continue  # it is refused: on-demand work may be
                taken += [held(node, hour, hour + length) for node in free[:nodes]]
            else:
                legs.append(need(f"leg{number}", nodes, start, start + length))
            for h in window:
                promised[h] += nodes
        due = [leg for leg in legs if leg.start <= at(hour + lead) and leg.end > at(hour)]
        taken = [one for one in taken if one.end > at(hour)]
        plan = assign(places(SIZE), taken, due, at(hour))
        assert plan.short == {}
        begun = {one.id for one in taken if one.start <= at(hour)}
        assert not begun & set(plan.end)
        assert not plan.lost
        taken = carried_out(plan, taken)
        for one in taken:
            assert not any(one is not other and overlap(one, other) for other in taken)
        for leg in due:
            assert sum(one.leg == leg.leg for one in taken) == leg.nodes


def clash(one, node, window):
    return one.node == node and one.start < at(window.stop) and at(window.start) < one.end


def overlap(one, other):
    return one.node == other.node and one.start < other.end and other.start < one.end


def carried_out(plan, taken):
    stay = [replace(one, end=plan.stretch.get(one.id, one.end)) for one in taken if one.id not in plan.end]
    new = [Held(f"{b.leg}@{b.node}", b.node, b.start, b.end, b.reservation, b.leg) for b in plan.begin]
    return stay + new
