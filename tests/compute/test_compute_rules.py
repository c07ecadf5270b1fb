"""Placement, restarts, what a reason says, and the checks of a spec."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compute.engines.base import EndCause, RankEnd
from skerry.compute.errors import InvalidWorkload
from skerry.compute.model import (
    WORKLOAD_TRANSITIONS,
    Desired,
    Outcome,
    ReasonCode,
    StatusReason,
    StopReason,
    Workload,
    WorkloadKind,
    WorkloadStatus,
)
from skerry.compute.rules.placement import Candidate, Place, Spot, place
from skerry.compute.rules.restarts import LONGEST_SECONDS, STABLE, back_off, judge, sequel, with_last_lines
from skerry.compute.rules.validity import require_valid
from skerry.kernel.ids import ProjectId, WorkloadId
from tests.compute.controlling import spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODE = Candidate("a", "fake", "local", "h100.4x", True, 1 << 34, (0, 1, 2, 3), shared=False)


def workload(**changes: object) -> Workload:
    values = {
        "id": WorkloadId("wl_1"),
        "project": ProjectId("proj_1"),
        "kind": WorkloadKind.SERVICE,
        "name": "w",
        "resource": "ep_1",
        "spec": spec(),
        "status": WorkloadStatus.RUNNING,
        "reason": StatusReason.of(ReasonCode.UP),
        "desired": Desired.RUN,
        "created_at": NOW,
        "updated_at": NOW,
        "due_at": NOW,
        "attempts": 1,
    }
    return Workload(**(values | changes))


def end(outcome: Outcome, cause: EndCause = EndCause.EXITED) -> RankEnd:
    return RankEnd(cause, outcome, NOW, exit_code=1, message="it ended")


# The state machine


def test_states_are_those_of_the_design() -> None:
    S = WorkloadStatus
    assert WORKLOAD_TRANSITIONS.allows(S.PENDING, S.STARTING)
    assert WORKLOAD_TRANSITIONS.allows(S.STARTING, S.RUNNING)
    assert WORKLOAD_TRANSITIONS.allows(S.RUNNING, S.STOPPING)
    assert WORKLOAD_TRANSITIONS.allows(S.STOPPING, S.ENDED)
    assert WORKLOAD_TRANSITIONS.allows(S.STARTING, S.PENDING)
    assert WORKLOAD_TRANSITIONS.allows(S.RUNNING, S.PENDING)
    assert WORKLOAD_TRANSITIONS.allows(S.ENDED, S.PENDING)
    assert not WORKLOAD_TRANSITIONS.allows(S.STOPPING, S.PENDING)
    assert not WORKLOAD_TRANSITIONS.allows(S.ENDED, S.RUNNING)


def test_every_reason_says_what_to_do() -> None:
    assert all(code.advice.endswith(".") for code in ReasonCode)


def test_only_lost_is_our_fault() -> None:
    assert [outcome for outcome in Outcome if outcome.our_fault] == [Outcome.LOST]


# Placement


def test_the_fullest_node_that_fits_is_taken() -> None:
    emptier, fuller = NODE, replace(NODE, name="b", used=2, taken=frozenset({0, 2}))
    assert place(spec(accelerators=2), [emptier, fuller]) == Place((Spot(fuller, (1, 3)),))
    assert place(spec(accelerators=3), [emptier, fuller]) == Place((Spot(emptier, (0, 1, 2)),))


def test_cores_are_counted_and_not_handed_out() -> None:
    cores = replace(NODE, shared=True, used=2)
    assert place(spec(accelerators=2), [cores]) == Place((Spot(cores, ()),))
    assert isinstance(place(spec(accelerators=3), [cores]), str)


def test_no_accelerators_fit_on_a_full_node() -> None:
    full = replace(NODE, used=4, taken=frozenset({0, 1, 2, 3}))
    assert place(spec(accelerators=0), [full]) == Place((Spot(full, ()),))


@pytest.mark.parametrize(
    ("node", "wanted", "words"),
    [
        (replace(NODE, ready=False, why_not="it is draining"), spec(), "it is draining"),
        (NODE, spec(sku="b200.8x"), "its SKU is h100.4x"),
        (NODE, spec(memory_bytes=1 << 40), "bytes of memory"),
        (NODE, spec(accelerators=8), "it has 4 accelerators, 8 are wanted"),
        (replace(NODE, taken=frozenset({0, 1, 2})), spec(), "1 of its 4 accelerators are free"),
    ],
)
def test_a_refusal_names_the_node_and_the_reason(node: Candidate, wanted: object, words: str) -> None:
    assert words in place(wanted, [node])


def test_many_refusals_are_told_in_short() -> None:
    nodes = [replace(NODE, name=f"n{index}") for index in range(100)]
    assert place(spec(accelerators=8), nodes).endswith("97 more nodes")
    assert place(spec(), []) == "There are no nodes"


@given(taken=st.sets(st.integers(0, 7)), wanted=st.integers(0, 8))
def test_what_is_handed_out_was_free(taken: set[int], wanted: int) -> None:
    node = replace(NODE, accelerators=tuple(range(8)), taken=frozenset(taken), used=len(taken))
    found = place(spec(accelerators=wanted), [node])
    if isinstance(found, Place):
        assert len(set(found.devices)) == wanted and not set(found.devices) & taken
    else:
        assert wanted > 8 - len(taken)


# Ends and restarts


@pytest.mark.parametrize(
    ("changes", "ended", "outcome", "counts"),
    [
        ({}, end(Outcome.FAILED), Outcome.FAILED, True),
        ({}, end(Outcome.SUCCEEDED), Outcome.FAILED, True),
        ({"kind": WorkloadKind.JOB}, end(Outcome.SUCCEEDED), Outcome.SUCCEEDED, True),
        ({}, end(Outcome.CANCELLED, EndCause.CANCELLED), Outcome.LOST, True),
        ({}, end(Outcome.LOST, EndCause.SIGNALLED), Outcome.LOST, True),
        ({}, end(Outcome.LOST, EndCause.ENGINE_STOPPED), Outcome.LOST, False),
        ({}, end(Outcome.PREEMPTED, EndCause.SIGNALLED), Outcome.PREEMPTED, False),
        ({"desired": Desired.STOP}, end(Outcome.FAILED), Outcome.CANCELLED, True),
        ({"desired": Desired.STOP, "stop_reason": StopReason.BUDGET}, end(Outcome.LOST), Outcome.BUDGET_STOPPED, True),
        (
            {"desired": Desired.STOP, "stop_reason": StopReason.MAX_DURATION},
            end(Outcome.CANCELLED),
            Outcome.TIMED_OUT,
            True,
        ),
        ({"desired": Desired.STOP, "kind": WorkloadKind.JOB}, end(Outcome.SUCCEEDED), Outcome.SUCCEEDED, True),
    ],
)
def test_an_end_is_judged_by_who_wanted_what(changes: dict, ended: RankEnd, outcome: Outcome, counts: bool) -> None:
    verdict = judge(workload(**changes), ended)
    assert (verdict.outcome, verdict.counts) == (outcome, counts)


def test_failures_in_a_row_wait_longer_and_longer() -> None:
    failing = workload()
    waits = []
    for _ in range(12):
        follows = sequel(failing, judge(failing, end(Outcome.FAILED)), timedelta(0), 0.5)
        waits.append(follows.after_seconds)
        failing = replace(failing, failures=follows.failures, restarts=follows.restarts)
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == LONGEST_SECONDS
    assert follows.reason.code == ReasonCode.BACKING_OFF


def test_a_stable_time_resets_the_back_off() -> None:
    failing = workload(failures=9)
    follows = sequel(failing, judge(failing, end(Outcome.FAILED)), STABLE, 0.5)
    assert (follows.failures, follows.after_seconds) == (1, 1)


@given(failures=st.integers(0, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_back_off_is_bounded(failures: int, chance: float) -> None:
    assert 0.8 <= back_off(failures, chance) <= LONGEST_SECONDS * 1.2


def test_restarts_run_out() -> None:
    last = workload(spec=spec(max_restarts=2), restarts=2)
    follows = sequel(last, judge(last, end(Outcome.FAILED)), timedelta(0), 0.5)
    assert (follows.after_seconds, follows.reason.code) == (None, ReasonCode.NO_RESTARTS_LEFT)


def test_an_orderly_stop_of_the_engine_costs_no_restart() -> None:
    once = workload(spec=spec(max_restarts=0))
    follows = sequel(once, judge(once, end(Outcome.LOST, EndCause.ENGINE_STOPPED)), timedelta(0), 0.5)
    assert (follows.after_seconds, follows.restarts, follows.reason.code) == (0, 0, ReasonCode.RESTARTING)


def test_the_end_of_the_log_is_shown_and_can_be_stored() -> None:
    log = b"\n".join(b"line %d" % n for n in range(50)) + b"\nbad \x00 \xff byte"
    text = with_last_lines("exit code 1", log)
    assert text.startswith("exit code 1; last lines of its log:\nline 41\n")
    assert "\0" not in text
    assert with_last_lines("exit code 1", b" \n") == "exit code 1"


# Specs


def test_all_that_is_wrong_with_a_spec_is_said_at_once() -> None:
    with pytest.raises(InvalidWorkload) as caught:
        require_valid(spec(accelerators=-1, tasks=0, command=(), env={"1X": ""}, files={"a/b": "\0"}, open_files=0))
    paths = {error.path for error in caught.value.errors}
    assert paths == {"accelerators", "tasks", "command", "env.1X", "files.a/b", "files", "open_files"}


def test_secrets_do_not_show_in_the_representation() -> None:
    assert "hidden" not in repr(spec(files={"key": "hidden"}))
