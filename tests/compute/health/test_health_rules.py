"""What signs mean, and what they come to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compute.engines.base import NodeCondition, NodeState
from skerry.compute.health import rules
from skerry.compute.health.model import Action, Policy, Severity, Signal, SignalKind
from skerry.compute.model import Outcome
from skerry.kernel.ids import NodeId

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STATE = NodeState("a", NodeCondition.READY, 4, 1 << 30, (0, 1), False)


def signal(severity: Severity, ago: timedelta = timedelta(minutes=5), **changes: object) -> Signal:
    at = NOW - ago
    made = Signal("sig", NodeId("node_a"), "a", SignalKind.EXIT, "x", severity, "why", Action.RESET, at, at)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("number", "severity", "action"),
    [
        (13, Severity.NOTE, Action.INSPECT),
        (48, Severity.FAILING, Action.RESET),
        (63, Severity.SUSPECT, Action.RESET),
        (64, Severity.FAILING, Action.REPLACE),
        (79, Severity.FAILING, Action.REBOOT),
        (94, Severity.SUSPECT, Action.RESET),
        (95, Severity.FAILING, Action.RESET),
        (4711, Severity.SUSPECT, Action.INSPECT),
    ],
)
def test_an_xid_means_what_its_number_says(number: int, severity: Severity, action: Action) -> None:
    sign = rules.xid(number, "gpu3")
    assert (sign.severity, sign.action, sign.code) == (severity, action, f"{number}:gpu3")
    assert sign.detail.startswith(f"Xid {number} on gpu3: ")


@pytest.mark.parametrize(
    ("message", "code", "severity"),
    [
        ("exit code 1: CUDA error: uncorrectable ECC error encountered", "uncorrectable_ecc", Severity.FAILING),
        ("RuntimeError: GPU is lost. Reboot the system", "gpu_lost", Severity.FAILING),
        ("ncclRemoteError: NCCL: remote process exited or there was a network error", "nccl", Severity.SUSPECT),
        ("OSError: [Errno 28] No space left on device", "disk", Severity.SUSPECT),
    ],
)
def test_the_end_of_work_tells_of_its_node(message: str, code: str, severity: Severity) -> None:
    (sign,) = rules.of_exit(Outcome.FAILED, message, alone=True)
    assert (sign.code, sign.severity) == (code, severity)
    (shared,) = rules.of_exit(Outcome.FAILED, message, alone=False)
    assert shared.severity is Severity.NOTE, "of several nodes nobody knows which"


def test_a_program_that_fails_by_itself_tells_nothing() -> None:
    assert rules.of_exit(Outcome.FAILED, "exit code 1: ValueError: bad batch", alone=True) == []


def test_lost_work_makes_its_node_suspect() -> None:
    (sign,) = rules.of_exit(Outcome.LOST, "killed by signal 9; last lines of its log:\nthe customer's", alone=True)
    assert (sign.code, sign.severity) == ("lost", Severity.SUSPECT)
    assert sign.detail == "work was lost: killed by signal 9", "a log is nothing for operators' screens"


@pytest.mark.parametrize(("seconds", "told"), [(0, False), (59, False), (60, True)])
def test_a_node_that_is_down_for_a_minute_is_not_there(seconds: int, told: bool) -> None:
    down = replace(STATE, condition=NodeCondition.DOWN, reason="Not responding")
    signs = rules.of_state(down, timedelta(seconds=seconds))
    assert [sign.code for sign in signs] == (["down"] if told else [])
    assert all("Not responding" in sign.detail for sign in signs)


def test_readings_of_the_hardware_become_signs() -> None:
    readings = (("xid", "79:gpu0", ""), ("ecc", "uncorrected:gpu1", "2 errors"), ("thermal", "hot:gpu0", "93 °C"))
    signs = rules.of_state(replace(STATE, signals=(*readings, ("new", "x", "y"), ("xid", "x:y", ""))), timedelta(0))
    assert [(sign.kind, sign.severity) for sign in signs] == [
        (SignalKind.XID, Severity.FAILING),
        (SignalKind.ECC, Severity.FAILING),
        (SignalKind.THERMAL, Severity.SUSPECT),
    ]


@pytest.mark.parametrize(
    ("signals", "verdict"),
    [
        ([], None),
        ([signal(Severity.NOTE, count=50)], None),
        ([signal(Severity.SUSPECT)], Severity.SUSPECT),
        ([signal(Severity.SUSPECT), signal(Severity.SUSPECT)], Severity.SUSPECT),
        ([signal(Severity.SUSPECT), signal(Severity.SUSPECT, count=2)], Severity.FAILING),
        ([signal(Severity.SUSPECT, ago=timedelta(hours=25), count=9)], None),
        ([signal(Severity.FAILING), signal(Severity.NOTE)], Severity.FAILING),
    ],
)
def test_several_suspect_signs_within_a_day_are_too_many(signals: list[Signal], verdict: Severity | None) -> None:
    found = rules.judge(signals, NOW, None)
    assert (found.severity if found is not None else None) == verdict


def test_what_was_before_the_last_repair_counts_no_longer() -> None:
    before = [signal(Severity.FAILING, ago=timedelta(hours=2))]
    assert rules.judge(before, NOW, NOW - timedelta(hours=1)) is None
    assert rules.judge(before, NOW, NOW - timedelta(hours=3)) is not None


@given(st.lists(st.sampled_from(Severity), max_size=8))
def test_more_signs_never_make_a_node_better(severities: list[Severity]) -> None:
    order = [None, Severity.SUSPECT, Severity.FAILING]

    def rank(count: int) -> int:
        found = rules.judge([signal(one) for one in severities[:count]], NOW, None)
        return order.index(found.severity if found is not None else None)

    ranks = [rank(count) for count in range(len(severities) + 1)]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize(
    ("policy", "action", "itself"),
    [
        (Policy.APPROVE, Action.RESET, False),
        (Policy.AUTO, Action.RESET, True),
        (Policy.AUTO, Action.REBOOT, True),
        (Policy.AUTO, Action.REPLACE, False),
        (Policy.AUTO, Action.INSPECT, False),
    ],
)
def test_what_needs_hands_is_never_approved_by_policy(policy: Policy, action: Action, itself: bool) -> None:
    assert rules.goes_by_itself(policy, action) is itself
