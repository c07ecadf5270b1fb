"""The record of delivery: every promised node-second stands in it once, and what was not there is taken off."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.capacity.binding.rules.delivery import Had, Promise, Record, facts, had, records
from skerry.kernel.clock import FakeClock
from tests.capacity.claims.test_claims import claim

T0 = FakeClock().now()
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def at(minutes):
    return T0 + minutes * MINUTE


def promise(nodes, start, end, leaf="leaf_1", site="no"):
    return Promise(leaf, site, nodes, at(start), at(end))


def there(start, end, leaf="leaf_1"):
    return Had(leaf, at(start), at(end))


def record(site, start, end, promised, delivered):
    return Record(site, at(start), at(end), promised, delivered)


def test_pieces_are_clock_hours_cut_to_the_window():
    found = records([promise(2, 30, 150)], [there(30, 150), there(30, 150)], None, at(1000), final=True)
    assert found == [
        record("no", 30, 60, 3600, 3600),
        record("no", 60, 120, 7200, 7200),
        record("no", 120, 150, 3600, 3600),
    ]


def test_an_hour_is_closed_when_it_is_over():
    promises = [promise(1, 30, 150)]
    assert records(promises, [], None, at(59), final=False) == []
    assert [one.t1 for one in records(promises, [], None, at(61), final=False)] == [at(60)]
    assert [one.t1 for one in records(promises, [], at(60), at(121), final=False)] == [at(120)]


def test_a_change_of_the_promise_cuts_the_hour():
    found = records([promise(4, 0, 20), promise(2, 20, 60)], [], None, at(60), final=False)
    assert [(one.t0, one.t1, one.promised) for one in found] == [(at(0), at(20), 4800), (at(20), at(60), 4800)]


def test_what_one_leaf_has_too_much_makes_up_for_nothing():
    promises = [promise(1, 0, 60), promise(1, 0, 60, "leaf_2")]
    found = records(promises, [there(0, 60), there(0, 60)], None, at(60), final=True)
    assert found == [record("no", 0, 60, 7200, 3600)]


def test_sites_have_records_of_their_own():
    promises = [promise(1, 0, 60), promise(2, 0, 60, "leaf_2", "pt")]
    found = records(promises, [there(0, 60)], None, at(60), final=True)
    assert found == [record("no", 0, 60, 3600, 3600), record("pt", 0, 60, 7200, 0)]


def test_a_replaced_node_costs_the_time_between():
    found = records([promise(1, 0, 60)], [there(0, 20), there(25, 60)], None, at(60), final=True)
    assert found == [record("no", 0, 60, 3600, 3300)]


def test_nothing_is_had_before_the_whole_was_there_or_a_node_was_handed_over():
    claims = [
        claim(0, 2, kind="reservation", delivered_at=T0 - DAY),
        claim(0, 2, kind="reservation", delivered_at=at(30)),
        claim(0, 2, kind="reservation"),
        claim(0, 2, kind="reservation", delivered_at=T0, void=True),
    ]
    assert had(claims, None, at(90)) == []
    assert had(claims, T0, at(90)) == [there(0, 90), there(30, 90)]
    assert had(claims, at(45), at(180)) == [there(45, 120), there(45, 120)]


def test_ids_come_from_what_is_recorded_and_corrections_have_their_own():
    piece = record("no", 0, 60, 7200, 7000)
    sold, undelivered = facts("res_1", "proj_1", "h100.8x", [piece])
    assert (sold.quantity, undelivered.quantity) == (7200, -200)
    assert sold.id != undelivered.id
    assert (sold.dims, sold.t0, sold.t1) == (undelivered.dims, undelivered.t0, undelivered.t1)
    assert sold.dims["charge_by"] == "reservation"
    assert [one.id for one in facts("res_1", "proj_1", "h100.8x", [piece])] == [sold.id, undelivered.id]
    assert [one.quantity for one in facts("res_1", "proj_1", "h100.8x", [record("no", 0, 60, 7200, 7200)])] == [7200]


minutes = st.integers(0, 240)
windows = st.tuples(minutes, st.integers(1, 180))
promised_windows = st.lists(st.tuples(st.integers(1, 4), windows, st.sampled_from("ab")), min_size=1, max_size=4)
had_windows = st.lists(st.tuples(windows, st.sampled_from("ab")), max_size=5)


@settings(deadline=None)
@given(promised_windows, had_windows, st.lists(st.integers(0, 540), max_size=5))
def test_every_node_second_is_recorded_once_whenever_hours_are_closed(promised, really, closings):
    promises = [promise(n, s, s + length, leaf, "no" if leaf == "a" else "pt") for n, (s, length), leaf in promised]
    delivered = [there(s, s + length, leaf) for (s, length), leaf in really]
    end = max(one.end for one in promises)
    found, begin = [], None
    for through in sorted(at(closing) for closing in closings if at(closing) < end):
        found += records(promises, delivered, begin, through, final=False)
        begin = through.replace(minute=0)
    found += records(promises, delivered, begin, end, final=True)
    assert sum(one.promised for one in found) == sum(oracle(promises, delivered)[0])
    assert sum(one.delivered for one in found) == sum(oracle(promises, delivered)[1])
    assert len({(one.site, one.t0) for one in found}) == len(found)
    assert all(one.t0.hour == (one.t1 - MINUTE).hour for one in found)


def oracle(promises, delivered):
    """Node-seconds promised and delivered, minute by minute and leaf by leaf."""
    sums = [], []
    for moment in map(at, range(500)):
        for leaf in "ab":
            nodes = sum(one.nodes for one in promises if one.leaf == leaf and one.start <= moment < one.end)
            really = sum(one.leaf == leaf and one.start <= moment < one.end for one in delivered)
            sums[0].append(60 * nodes)
            sums[1].append(60 * min(nodes, really))
    return sums
