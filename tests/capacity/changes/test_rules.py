"""What legs become when a reservation is changed."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from skerry.capacity.model import Leg
from skerry.capacity.rules import changes as rules
from skerry.kernel.ids import LeafId
from skerry.kernel.windows import Schedule, Span, Window
from tests.capacity.market import START


def hour(number):
    return START + timedelta(hours=number)


def leg(nodes, start, end, leaf="a", id="leg"):
    return Leg(LeafId(leaf), leaf, "hall", "site", nodes, Window(hour(start), hour(end)), id)


@st.composite
def reservations(draw):
    legs = []
    for number in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, 20))
        end = start + draw(st.integers(1, 20))
        legs.append(leg(draw(st.integers(1, 9)), start, end, draw(st.sampled_from("abc")), f"leg-{number}"))
    return legs


def node_seconds(legs):
    return sum(one.node_seconds for one in legs)


def by_leaf(legs):
    """Nodes over time of each leaf."""
    return {name: rules.schedule_of(one for one in legs if one.leaf == name) for name in {one.leaf for one in legs}}


@given(reservations(), st.integers(-2, 45))
def test_cancelling_keeps_what_was_used_and_gives_up_the_rest(legs, now):
    after = rules.cancelled(legs, hour(now))
    assert node_seconds(after.legs) + node_seconds(after.given_up) == node_seconds(legs)
    assert all(one.window.end <= hour(now) for one in after.legs)
    assert all(one.window.start >= hour(now) for one in after.given_up)


@given(reservations(), st.integers(1, 12), st.integers(-2, 45))
def test_shrinking_leaves_at_most_so_many_and_touches_nothing_before(legs, nodes, since):
    after = rules.shrunk(legs, nodes, hour(since))
    assert node_seconds(after.legs) + node_seconds(after.given_up) == node_seconds(legs)
    whole = Window(hour(-5), hour(60))
    late = [part for one in after.legs if (part := rules.cut(one, hour(since))[1]) is not None]
    assert rules.most_at_once(late, whole) <= nodes
    early = [part for one in after.legs if (part := rules.cut(one, hour(since))[0]) is not None]
    before = [part for one in legs if (part := rules.cut(one, hour(since))[0]) is not None]
    assert by_leaf(early) == by_leaf(before)
    assert all(one.window.start >= hour(since) for one in after.given_up)


@given(reservations(), st.integers(1, 12))
def test_shrinking_to_what_there_is_changes_nothing(legs, nodes):
    most = rules.schedule_of(legs).peak()
    after = rules.shrunk(legs, max(nodes, most), hour(10))
    assert after.given_up == ()
    assert sorted(after.legs, key=lambda one: one.id) == sorted(legs, key=lambda one: one.id)


@given(reservations(), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_parts_of_a_split_have_their_nodes_all_the_time_and_nothing_is_lost(legs, parts):
    made = rules.split(legs, parts)
    whole = rules.schedule_of(legs)
    if made is None:
        return
    left, found = made
    for nodes, part in zip(parts, found, strict=True):
        assert rules.schedule_of(part) == Schedule.of(Span(span.window, nodes) for span in whole.spans)
    together = [*left, *(one for part in found for one in part)]
    assert by_leaf(together) == by_leaf(legs)


def test_a_split_beyond_what_is_there_is_none():
    assert rules.split([leg(4, 0, 10)], [5]) is None
    assert rules.split([leg(4, 0, 10)], [3, 2]) is None
    assert rules.split([leg(4, 0, 10), leg(2, 5, 10, "b")], [5]) is None


@given(reservations(), st.integers(1, 30))
def test_extending_makes_only_what_lasts_to_the_end_last_longer(legs, more):
    last = max(one.window.end for one in legs)
    after = rules.extended(legs, last + timedelta(hours=more))
    for before, now in zip(legs, after, strict=True):
        assert now.nodes == before.nodes
        assert now.window.start == before.window.start
        assert now.window.end == (last + timedelta(hours=more) if before.window.end == last else before.window.end)


def test_shrinking_gives_up_small_parts_first_and_keeps_ids_of_what_has_begun():
    legs = [leg(8, 0, 10, "a", "leg-1"), leg(2, 0, 10, "b", "leg-2")]
    after = rules.shrunk(legs, 8, hour(5))
    assert after.legs == (leg(8, 0, 10, "a", "leg-1"), leg(2, 0, 5, "b", "leg-2"))
    assert after.given_up == (leg(2, 5, 10, "b", ""),)
