"""The checks that run on nodes, on this machine."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from skerry.compute.health.checks import bandwidth, burning
from skerry.compute.health.checks.bandwidth import Pair


def pair(rank: int, attempt: str = "att_1") -> Pair:
    env = {"SKERRY_ATTEMPT": attempt, "SKERRY_NODE_RANK": str(rank), "SKERRY_NODE_ADDRESSES": "127.0.0.1,127.0.0.1"}
    return Pair.from_env(env)


def both(*pairs: Pair, least: int = 0, patience: float = 20) -> list[bandwidth.Found]:
    found: dict[int, bandwidth.Found] = {}

    def run(one: Pair) -> None:
        found[one.rank] = bandwidth.bandwidth(one, 0.2, least, patience)

    threads = [threading.Thread(target=run, args=(one,)) for one in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [found[rank] for rank in sorted(found)]


def test_two_nodes_measure_both_ways_and_agree() -> None:
    first, second = both(pair(0), pair(1))
    assert first.ok and second.ok, (first, second)
    assert first.figures["sent_mbit"] == second.figures["received_mbit"] > 0
    assert first.figures["received_mbit"] == second.figures["sent_mbit"] > 0


def test_too_slow_a_way_fails_on_both_ends() -> None:
    assert [found.ok for found in both(pair(0), pair(1), least=10**9)] == [False, False]


def test_a_stranger_on_the_port_is_not_the_peer() -> None:
    """Neither a listener that says something else nor a caller that does."""
    here = pair(0)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", here.ports[0]))
        stranger.listen()
        first, second = both(pair(0), pair(1))
    assert first.ok and second.ok, (first, second)


def test_a_node_that_never_comes_is_said() -> None:
    (found,) = both(pair(0), patience=0.3)
    assert not found.ok and "do not reach each other" in found.detail


def test_a_processor_that_errs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False])
    monkeypatch.setattr(np, "array_equal", lambda *_: next(answers))
    found = burning.burn_in(1)
    assert not found.ok and "round 1" in found.detail


def test_the_program_reports_and_ends_with_0(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "skerry.compute.health.checks", "burn_in", "--seconds", "0.2"],
        env={"SKERRY_REPORT": str(report), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(report.read_text())["ok"] is True
    assert json.loads(done.stdout)["figures"]["rounds"] > 0
