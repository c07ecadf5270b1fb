"""Who is slowed when an endpoint has far more to do than it can. On a clock of its own."""

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.inference.gateway.fairness import Surge, Tier

PAYING, FREE, BATCH = Tier.PAYING, Tier.FREE, Tier.BATCH


def pressed(surge: Surge, load: int, slots: int, start: float, seconds: float) -> float:
    """`observe` every second; the time at the end."""
    now = start
    while now < start + seconds:
        now += 1.0
        surge.observe(load, slots, now)
    return now


def test_at_ordinary_load_nobody_is_slowed() -> None:
    surge = Surge()
    pressed(surge, 8, 8, 0.0, 100.0)
    assert [surge.factor(tier) for tier in Tier] == [1.0, 1.0, 1.0]
    assert all(surge.admit(FREE, "a") for _ in range(100))
    assert surge.words(FREE) == ""


def test_lower_tiers_are_slowed_by_steps_and_paying_ones_never() -> None:
    shares = []
    for load in (20, 28, 45, 400):
        surge = Surge()
        pressed(surge, load, 8, 0.0, 60.0)
        assert surge.factor(PAYING) == 1.0
        assert surge.words(PAYING) == ""
        assert 0.0 < surge.factor(BATCH) < surge.factor(FREE)
        shares.append(surge.factor(FREE))
    assert shares == [0.5, 0.25, 0.1, 0.1]


def test_the_header_says_who_is_slowed_and_how_much() -> None:
    surge = Surge()
    pressed(surge, 28, 8, 0.0, 60.0)
    assert surge.words(FREE) == "free tier, 25 %"
    assert surge.words(BATCH) == "batches, 10 %"


def test_a_surge_ends_step_by_step() -> None:
    surge = Surge()
    now = pressed(surge, 80, 8, 0.0, 60.0)
    seen = []
    for _ in range(60):
        now = pressed(surge, 4, 8, now, 1.0)
        seen.append(surge.factor(FREE))
    assert seen == sorted(seen)
    assert sorted(set(seen)) == [0.1, 0.25, 0.5, 1.0]
    assert seen[20] < 1.0


def test_a_load_that_swings_about_a_threshold_does_not_switch_to_and_fro() -> None:
    surge = Surge()
    now = pressed(surge, 20, 8, 0.0, 60.0)
    factors = set()
    for turn in range(100):
        now = pressed(surge, 14 if turn % 2 else 18, 8, now, 6.0)
        factors.add(surge.factor(FREE))
    assert factors == {0.5}


def test_a_surge_lasts_until_the_load_is_well_below_where_it_began() -> None:
    surge = Surge()
    now = pressed(surge, 20, 8, 0.0, 60.0)
    now = pressed(surge, 12, 8, now, 600.0)
    assert surge.factor(FREE) == 0.5
    pressed(surge, 9, 8, now, 60.0)
    assert surge.factor(FREE) == 1.0


def test_a_cold_start_is_no_surge() -> None:
    surge = Surge()
    pressed(surge, 500, 0, 0.0, 60.0)
    assert surge.factor(FREE) == 1.0


def test_after_a_long_silence_the_past_is_past() -> None:
    surge = Surge()
    now = pressed(surge, 80, 8, 0.0, 60.0)
    surge.observe(1, 8, now + 3600.0)
    assert surge.factor(FREE) == 1.0


@given(st.integers(1, 400))
@settings(deadline=None)
def test_each_tenant_is_let_in_by_the_same_part(asked: int) -> None:
    surge = Surge()
    pressed(surge, 28, 8, 0.0, 60.0)
    let_in = sum(surge.admit(FREE, "a") for _ in range(asked))
    assert 0.25 * asked <= let_in < 0.25 * asked + 1
    # Another's first is let in all the same.
    assert surge.admit(FREE, "b")


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 64), st.floats(0, 100)), max_size=50))
@settings(deadline=None)
def test_whatever_the_load_was_factors_stay_within_bounds(seen: list[tuple[int, int, float]]) -> None:
    surge, now = Surge(), 0.0
    for load, slots, passed in seen:
        now += passed
        surge.observe(load, slots, now)
        assert surge.factor(PAYING) == 1.0
        assert 0.0 < surge.factor(BATCH) <= surge.factor(FREE) <= 1.0
    surge.observe(0, 8, now + 60.0)
    surge.observe(0, 8, now + 120.0)
    assert surge.factor(FREE) == 1.0
