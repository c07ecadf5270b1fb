"""Facts of an attempt: one an hour, whole seconds, nothing lost at the cuts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from skerry.compute.model import Attempt, ChargeBy
from skerry.compute.rules.usage import closed_facts
from skerry.kernel.clock import floor_hour, hours, usage_hour
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId
from tests.compute.controlling import spec
from tests.compute.test_compute_rules import workload

START = datetime(2026, 3, 1, 10, 59, 58, 600_000, tzinfo=UTC)
WORKLOAD = workload(spec=spec(charge_by=ChargeBy.TOKENS, model="smol", sku="h100.4x"))


def attempt(**changes: object) -> Attempt:
    values = {
        "id": AttemptId("att_1"),
        "workload": WorkloadId("wl_1"),
        "project": ProjectId("proj_1"),
        "n": 1,
        "engine": "fake",
        "nodes": ("local-1",),
        "accelerators": 2,
        "devices": (0, 1),
        "created_at": START,
        "site": "local",
        "ready_at": START,
    }
    return Attempt(**(values | changes))


def test_an_hour_is_one_fact_with_the_dims_of_its_time() -> None:
    facts = closed_facts(WORKLOAD, attempt(), START + timedelta(hours=1))
    assert [(fact.t0, fact.t1, fact.quantity) for fact in facts] == [
        (START, datetime(2026, 3, 1, 11, tzinfo=UTC), 2 * 1),
        (datetime(2026, 3, 1, 11, tzinfo=UTC), START + timedelta(hours=1), 2 * 3599),
    ]
    assert dict(facts[0].dims) == {
        "sku": "h100.4x",
        "model": "smol",
        "site": "local",
        "capacity_class": "on_demand",
        "charge_by": "tokens",
    }
    assert facts[0].resource == "ep_1"


def test_what_was_never_ready_or_holds_nothing_makes_no_facts() -> None:
    assert closed_facts(WORKLOAD, attempt(ready_at=None), START + timedelta(hours=1)) == []
    assert closed_facts(WORKLOAD, attempt(accelerators=0), START + timedelta(hours=1)) == []
    assert closed_facts(WORKLOAD, attempt(), START) == []


@given(
    start=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC)),
    length=st.timedeltas(timedelta(0), timedelta(hours=30)),
    looks=st.lists(st.timedeltas(timedelta(0), timedelta(hours=30)), max_size=6),
    accelerators=st.integers(1, 8),
)
def test_facts_add_up_to_the_whole_seconds_however_often_it_is_looked_at(
    start: datetime, length: timedelta, looks: list[timedelta], accelerators: int
) -> None:
    running, facts = attempt(ready_at=start, accelerators=accelerators), []
    for look in sorted(look for look in looks if look <= length):
        through = floor_hour(start + look)
        if through > (running.metered_through or start):
            facts += closed_facts(WORKLOAD, running, through)
            running = replace(running, metered_through=through)
    facts += closed_facts(WORKLOAD, running, start + length)

    assert sum(fact.quantity for fact in facts) == accelerators * (length // timedelta(seconds=1))
    assert len({fact.id for fact in facts}) == len(facts)
    assert len({usage_hour(fact.t1) for fact in facts}) == len(facts), "one an hour"
    assert all(floor_hour(fact.t0) == usage_hour(fact.t1) for fact in facts), "none crosses an hour"
    whole = closed_facts(WORKLOAD, attempt(ready_at=start, accelerators=accelerators), start + length)
    assert facts == whole, "a repetition makes the same facts"


@given(
    begin=st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 5), timezones=st.just(UTC)),
    length=st.timedeltas(timedelta(0), timedelta(hours=5)),
)
def test_hours_cover_the_interval_without_gap(begin: datetime, length: timedelta) -> None:
    pieces = list(hours(begin, begin + length))
    edges = [begin, *(t1 for _, t1 in pieces)]
    assert list(pairwise(edges)) == pieces
    assert edges[-1] == begin + length
