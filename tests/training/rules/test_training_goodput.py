from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from skerry.training.reporting import Loss
from skerry.training.rules.goodput import FREE_RESTART_MS, Ledger


def losses(ledger: Ledger, now: int) -> dict[str, int]:
    return {loss.value: length for loss, length in ledger.goodput(now).losses.items()}


def stepped(ledger: Ledger, first: int, last: int, begin: int, each: int = 100) -> int:
    """When the last step was done."""
    for number in range(first, last + 1):
        begin += each
        ledger.step(begin, number)
    return begin


def test_an_undisturbed_run_loses_its_start_alone():
    ledger = Ledger(0)
    ledger.started(400)
    assert stepped(ledger, 1, 10, begin=900) == 1900
    ledger.ended(2000, well=True)
    goodput = ledger.goodput(2000)
    assert (goodput.total_ms, goodput.productive_ms, losses(ledger, 2000)) == (2000, 1000, {"startup": 1000})
    assert goodput.ours_ms == 400, "ranks were not there yet"
    assert [(one.started_at, one.ended_at, one.not_charged) for one in ledger.news()] == [
        (0, 400, True),
        (400, 1000, False),
    ]


def killed_at_step_10(*, ours: bool) -> Ledger:
    ledger = Ledger(0)
    ledger.started(0)
    stepped(ledger, 1, 10, begin=0)
    ledger.lost(1050, hang=False, ours=ours)
    ledger.started(1070)
    ledger.step(1500, 9)  # the first of the next generation, from the checkpoint of step 8
    stepped(ledger, 10, 12, begin=1500)
    return ledger


def test_a_loss_is_told_apart_into_what_it_was():
    ledger = killed_at_step_10(ours=True)
    assert losses(ledger, 1800) == {"startup": 100, "detection": 50, "restart": 450, "redone": 100}
    assert ledger.goodput(1800).productive_ms == 900 + 200


def test_what_our_fault_cost_is_not_charged_and_the_jobs_own_is():
    assert killed_at_step_10(ours=True).goodput(1800).ours_ms == 50 + 450 + 100
    assert killed_at_step_10(ours=False).goodput(1800).ours_ms == 0


def test_a_restart_is_not_free_for_ever():
    """A program that never tells a step again would run for nothing."""
    ledger = Ledger(0)
    ledger.started(0)
    stepped(ledger, 1, 2, begin=0)
    ledger.lost(300, hang=False, ours=True)
    ledger.started(400)
    ledger.ended(400 + 3 * FREE_RESTART_MS, well=False)
    assert ledger.goodput(0).ours_ms == 100 + 100 + FREE_RESTART_MS


def test_a_program_that_tells_no_step_is_charged_from_its_ranks_start():
    ledger = Ledger(0)
    ledger.started(50)
    ledger.lost(1000, hang=False, ours=True)
    ledger.started(1100)
    ledger.ended(9000, well=True)
    goodput = ledger.goodput(9000)
    assert goodput.ours_ms == 50 + 100
    assert goodput.productive_ms == 9000 - 1100


def test_steps_of_an_earlier_attempt_are_done_again():
    ledger = Ledger(0, reached_step=5)
    ledger.started(10)
    stepped(ledger, 3, 7, begin=10)
    assert losses(ledger, 510) == {"startup": 110, "redone": 200}
    assert ledger.goodput(510).productive_ms == 200
    assert ledger.goodput(510).ours_ms == 10, "what a lost attempt took with it is taken off there"


def test_several_steps_told_at_once_are_shared_between_redone_and_new():
    ledger = killed_at_step_10(ours=True)
    ledger.lost(1800, hang=False, ours=True)
    ledger.step(1900, 9)  # reached is 12
    ledger.step(2500, 15)
    assert losses(ledger, 2500)["redone"] == 100 + 300
    assert ledger.goodput(2500).productive_ms == 900 + 200 + 300


def test_a_stall_for_a_checkpoint_is_no_progress():
    ledger = Ledger(0)
    ledger.started(0)
    ledger.step(100, 1)
    ledger.saved(30)
    ledger.step(200, 2)
    assert losses(ledger, 200) == {"startup": 100, "checkpoint": 30}
    assert ledger.goodput(200).productive_ms == 70


MOVES = st.lists(
    st.tuples(
        st.integers(-50, 5_000),
        st.one_of(
            st.just(("started",)),
            st.tuples(st.just("step"), st.integers(0, 40)),
            st.tuples(st.just("saved"), st.integers(0, 9_000)),
            st.tuples(st.just("lost"), st.booleans(), st.booleans()),
            st.just(("stopping",)),
        ),
    ),
    max_size=40,
)


@given(moves=MOVES, reached=st.integers(0, 20), well=st.booleans(), tail=st.integers(0, 5_000))
def test_the_parts_are_the_whole_whatever_happens(moves, reached, well, tail):
    begun, now = 1_000, 1_000
    ledger = Ledger(begun, reached_step=reached)
    latest = begun
    told = []
    for wait, (what, *rest) in moves:
        now += wait
        if what == "lost":
            ledger.lost(now, hang=rest[0], ours=rest[1])
        elif what == "step":
            ledger.step(now, rest[0])
        elif what == "saved":
            ledger.saved(rest[0])
        else:
            getattr(ledger, what)(now)
        latest = max(latest, now) if what != "saved" else latest
        probe = ledger.goodput(latest)
        assert probe.total_ms == probe.productive_ms + sum(probe.losses.values()) == latest - begun
        told += ledger.news()
    latest += tail
    ledger.ended(latest, well=well)
    told += ledger.news()
    goodput = ledger.goodput(latest)
    assert goodput.total_ms == latest - begun
    assert min([goodput.productive_ms, goodput.ours_ms, *goodput.losses.values()]) >= 0
    assert all(before.ended_at <= after.started_at for before, after in pairwise(told))
    assert sum(one.ended_at - one.started_at for one in told if one.not_charged) == goodput.ours_ms
    assert sum(one.ended_at - one.started_at for one in told) == sum(
        length for loss, length in goodput.losses.items() if loss is not Loss.CHECKPOINT
    )
