import signal

import pytest

from skerry.training.reporting import Cause
from skerry.training.rules.restarts import OURS_BORNE, Again, Failure, GiveUp, RankEnd, blame, decide, suspects


def end(rank: int, at: int = 0, **fields) -> RankEnd:
    return RankEnd(rank, f"node-{rank}", at, **fields)


KILLED = {"signal": signal.SIGKILL}


@pytest.mark.parametrize(
    ("ends", "rank", "cause", "ours"),
    [
        ([end(0, exit_code=3)], 0, Cause.RANK_FAILED, False),
        ([end(0, 5, exit_code=1), end(1, 6, **KILLED)], 1, Cause.RANK_KILLED, True),
        ([end(0, 5, exit_code=1), end(1, 3, exit_code=1)], 1, Cause.RANK_FAILED, False),
        ([end(0, 1, exit_code=1), end(1, 2, signal=signal.SIGSEGV)], 1, Cause.RANK_CRASHED, False),
        ([end(0, 1, signal=signal.SIGABRT), end(1, 2, **KILLED, out_of_memory=True)], 1, Cause.OUT_OF_MEMORY, False),
        ([end(0, exit_code=0), end(1, **KILLED, asked=True), end(2, 9, exit_code=2)], 2, Cause.RANK_FAILED, False),
    ],
)
def test_the_first_cause_is_blamed_and_not_those_it_took_along(ends, rank, cause, ours):
    failure = blame(ends, progress=True)
    assert failure is not None
    assert (failure.rank, failure.cause, failure.ours) == (rank, cause, ours)


def test_nobody_is_blamed_where_all_ended_well_or_were_asked_to():
    assert blame([end(0, exit_code=0), end(1, **KILLED, asked=True)], progress=True) is None


def test_the_last_line_of_a_rank_says_why_it_failed():
    failure = blame([end(1, exit_code=1, tail="Traceback …\nValueError: no such column\n\n")], progress=True)
    assert failure is not None
    assert failure.detail == "rank 1 on node-1 exited with 1: ValueError: no such column"


def failures(*causes: Cause, progress: bool = True, code: int = 1) -> list[Failure]:
    return [
        Failure(cause, 1000 * number, "a", 0, code, None, "it fell", progress) for number, cause in enumerate(causes)
    ]


FAILED, OURS = Cause.RANK_FAILED, Cause.RANK_KILLED


@pytest.mark.parametrize(
    ("history", "most", "verdict"),
    [
        (failures(FAILED), 0, GiveUp(False, "it fell (max_restarts is 0)")),
        (failures(FAILED), 1, Again(0)),
        (failures(FAILED, FAILED), 1, GiveUp(False, "it fell (1 restarts within 60 min are used up)")),
        (failures(OURS), 0, Again(0)),
        (failures(FAILED, *[OURS] * OURS_BORNE), 1, Again(0)),
        (failures(FAILED, progress=False), 9, Again(1000, 1)),
        (failures(FAILED, FAILED, FAILED, progress=False), 9, Again(4000, 3)),
        (failures(*[FAILED] * 9, progress=False), 9, Again(60_000, 9)),
        (failures(FAILED, progress=False, code=127), 9, GiveUp(False, "it fell")),
    ],
)
def test_restarts_are_counted_and_those_of_ours_are_not(history, most, verdict):
    assert decide(history, now=10_000, max_restarts=most, window_ms=3_600_000) == verdict


def test_what_is_our_fault_is_borne_only_so_often():
    verdict = decide(failures(*[OURS] * (OURS_BORNE + 1)), now=20_000, max_restarts=3, window_ms=3_600_000)
    assert isinstance(verdict, GiveUp)
    assert verdict.ours


def test_failures_before_the_window_are_forgotten():
    history = failures(FAILED, FAILED, FAILED)
    assert decide(history, now=62_000, max_restarts=1, window_ms=60_000) == Again(0)


def test_a_rank_and_a_node_that_go_first_twice_are_suspects():
    history = [
        Failure(FAILED, at, node, rank) for at, node, rank in ((1, "a", 0), (2, "b", 1), (3, "a", 0), (4, "b", 2))
    ]
    assert suspects(history, now=5, window_ms=100) == ({0: 2}, {"a": 2, "b": 2})
