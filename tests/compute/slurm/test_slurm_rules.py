"""What Slurm says, read and judged. Needs no Slurm."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from skerry.compute.engines.base import EndCause, GangStatus, NodeCondition, NodeReservation, RankEnd
from skerry.compute.engines.embedded.records import RankRecord
from skerry.compute.engines.slurm import parsing, setup
from skerry.compute.engines.slurm.join import dynamic_line, gres_line, join, node_line, slurm_version
from skerry.compute.engines.slurm.layout import AttemptFolder
from skerry.compute.engines.slurm.ledger import JobRecord
from skerry.compute.engines.slurm.parsing import Job
from skerry.compute.engines.slurm.states import Sight, gang_state
from skerry.compute.model import Outcome
from skerry.fleet.model import Accelerator, Machine
from skerry.kernel.ids import AttemptId

AT = datetime(2026, 1, 1, tzinfo=UTC)
ATTEMPT = AttemptId("att_1")
RECORD = JobRecord(ATTEMPT, AT, ("n1", "n2"), job=7)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gpu1", ("gpu1",)),
        ("gpu[1-3,07],head", ("gpu07", "gpu1", "gpu2", "gpu3", "head")),
        ("a[09-11]x", ("a09x", "a10x", "a11x")),
        ("(null)", ()),
        ("", ()),
    ],
)
def test_host_lists_are_read(text: str, names: tuple[str, ...]) -> None:
    assert parsing.hosts(text) == names


@pytest.mark.parametrize(
    ("state", "condition"),
    [
        ("idle", NodeCondition.READY),
        ("mixed", NodeCondition.READY),
        ("reserved", NodeCondition.READY),
        ("draining", NodeCondition.DRAINED),
        ("drained", NodeCondition.DRAINED),
        ("idle*", NodeCondition.DOWN),
        ("drained*", NodeCondition.DOWN),
        ("down", NodeCondition.DOWN),
        ("unknown", NodeCondition.DOWN),
        ("powered_down", NodeCondition.DOWN),
        ("what is new", NodeCondition.DOWN),
    ],
)
def test_only_states_we_know_to_be_well_are_ready(state: str, condition: NodeCondition) -> None:
    (node,) = parsing.nodes(f"main*|n1|{state}|64|1000|10.0.0.7|gpu:h100:8(S:0-1)|a fan | is loud\n")
    assert (node.condition, node.accelerators, node.shared) == (condition, tuple(range(8)), False)
    assert (node.address, node.accelerator) == ("10.0.0.7", "h100")
    assert node.memory_bytes == 1000 << 20
    assert node.reason == ("" if condition is NodeCondition.READY else "a fan | is loud")


def test_a_node_without_gpus_shares_its_cores() -> None:
    (node,) = parsing.nodes("main*|n1|idle|4|1000|n1|(null)|none\nlate|n2|idle|4|1000|n2|(null)|none\nnonsense\n")
    assert (node.name, node.accelerators, node.shared) == ("n1", (0, 1, 2, 3), True)


@pytest.mark.parametrize(("partition", "names"), [("", ["n1", "n3"]), ("main", ["n1", "n3"]), ("late", ["n1", "n2"])])
def test_the_fleet_is_one_partition(partition: str, names: list[str]) -> None:
    lines = ("main*|n1", "late|n1", "late|n2", "main*|n3")
    text = "".join(f"{line}|idle|4|1000|n|(null)|none\n" for line in lines)
    assert [node.name for node in parsing.nodes(text, partition)] == names


def test_types_of_gpus_are_read() -> None:
    gres = "gpu:h100:4(S:0,2-3),gpu:a100:2,license:7"
    (node,) = parsing.nodes(f"main*|n1|idle|4|1000|n1|{gres}|none\n")
    assert (node.accelerator, len(node.accelerators)) == ("a100+h100", 6)


CONFIG = """\
Configuration data as of 2026-01-01T00:00:00
DisableRootJobs         = No
KillWait                = 30 sec
SelectType              = select/cons_tres
"""
HERE, AWAY = "main*|n1|idle|4|1000|127.0.0.1|(null)|none", "main*|n1|idle|4|1000|10.0.0.7|(null)|none"


@pytest.mark.parametrize(
    ("change", "nodes", "shared", "words"),
    [
        (("", ""), HERE, False, ""),
        (("", ""), AWAY, True, ""),
        (("", ""), AWAY, False, "n1 is another machine: set SKERRY_SLURM_SHARED"),
        (("", ""), "", True, "no nodes: name one with SKERRY_SLURM_PARTITION"),
        (("cons_tres", "linear"), HERE, True, "SelectType=select/cons_tres"),
        (("Jobs         = No", "Jobs = Yes"), HERE, True, "DisableRootJobs=NO"),
        (("30 sec", "1 sec"), HERE, True, "KillWait to 2"),
    ],
)
def test_what_is_half_set_up_is_said(change: tuple[str, str], nodes: str, shared: bool, words: str) -> None:
    config = setup.settings_of(CONFIG.replace(*change) if change[0] else CONFIG)
    found = setup.problems(config, parsing.nodes(nodes), "", shared=shared)
    assert len(found) == bool(words) and words in " ".join(found)


def test_jobs_and_reservations_are_read() -> None:
    assert parsing.jobs("7|RUNNING|skerry-x-att_1|None\n8_[1-3]|PENDING|array|Priority\n\n") == [
        Job(7, "RUNNING", "skerry-x-att_1", "")
    ]
    line = "ReservationName=r1 StartTime=1767225600 EndTime=1767229200 Duration=01:00:00 Nodes=n[1-2] NodeCnt=2 Flags="
    end = datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert parsing.reservations(f"{line}\n") == [NodeReservation("r1", ("n1", "n2"), AT, end)]
    assert not parsing.reservations("No reservations in the system\n")


def rank(number: int, end: RankEnd | None = None) -> RankRecord:
    return RankRecord(ATTEMPT, number, f"n{number + 1}", "boot", pid=5, started_at=AT, end=end)


def sight(state: str | None, *ranks: RankRecord, alive: bool = True, **changes: object) -> Sight:
    found = Job(7, state, "name") if state is not None else None
    return Sight(replace(RECORD, **changes), found, {one.rank: one for one in ranks}, {}, alive, AT)


WELL = RankEnd(EndCause.EXITED, Outcome.SUCCEEDED, AT, exit_code=0)
STOPPED = RankEnd(EndCause.ENGINE_STOPPED, Outcome.LOST, AT, signal=15)


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (sight("PENDING", alive=False), GangStatus.PENDING),
        (sight("RUNNING"), GangStatus.PENDING),
        (sight("RUNNING", rank(0), rank(1)), GangStatus.RUNNING),
        (sight("RUNNING", rank(0), rank(1), alive=False), GangStatus.RUNNING),
        (sight("RUNNING", rank(0, WELL), rank(1)), GangStatus.STOPPING),
        (sight("RUNNING", rank(0), rank(1), cancelled_at=AT), GangStatus.STOPPING),
        (sight("NODE_FAIL", rank(0), rank(1)), GangStatus.STOPPING),
        (sight(None, rank(0), rank(1)), GangStatus.STOPPING),
        (sight("RUNNING", rank(0, WELL), rank(1, WELL)), GangStatus.ENDED),
        (sight(None, rank(0), rank(1), alive=False), GangStatus.ENDED),
    ],
)
def test_a_gang_has_ended_when_nothing_of_it_runs(seen: Sight, status: GangStatus) -> None:
    state = gang_state(seen)
    assert state.status is status
    assert (state.end is not None) == (status is GangStatus.ENDED)
    assert bool(state.reason) == (status is GangStatus.PENDING)


@pytest.mark.parametrize(
    ("seen", "cause", "outcome"),
    [
        (sight("COMPLETED", rank(0, WELL), rank(1, WELL)), EndCause.EXITED, Outcome.SUCCEEDED),
        (sight("NODE_FAIL", rank(0), rank(1), alive=False), EndCause.UNOBSERVED, Outcome.LOST),
        (sight("NODE_FAIL", rank(0, STOPPED), rank(1, STOPPED)), EndCause.UNOBSERVED, Outcome.LOST),
        (sight("CANCELLED", rank(0, STOPPED), rank(1, STOPPED)), EndCause.ENGINE_STOPPED, Outcome.LOST),
        (sight("CANCELLED", alive=False), EndCause.ENGINE_STOPPED, Outcome.LOST),
        (sight("CANCELLED", alive=False, cancelled_at=AT), EndCause.CANCELLED, Outcome.CANCELLED),
        (sight("PREEMPTED", alive=False), EndCause.ENGINE_STOPPED, Outcome.PREEMPTED),
        (sight("OUT_OF_MEMORY", alive=False), EndCause.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY),
        (sight("COMPLETED", rank(0), alive=False), EndCause.UNOBSERVED, Outcome.LOST),
        (sight("RUNNING", rank(0, STOPPED), rank(1, STOPPED), fenced="x"), EndCause.UNOBSERVED, Outcome.LOST),
        (sight(None, alive=False, job=None, cancelled_at=AT, places=()), EndCause.CANCELLED, Outcome.CANCELLED),
    ],
)
def test_the_end_is_what_the_nodes_wrote_or_else_what_slurm_says(
    seen: Sight, cause: EndCause, outcome: Outcome
) -> None:
    end = gang_state(seen).end
    assert end is not None and (end.cause, end.outcome) == (cause, outcome)


def test_the_first_job_to_claim_an_attempt_has_it_for_good(tmp_path: Path) -> None:
    folder = AttemptFolder(tmp_path)
    assert folder.claimed_by() is None
    assert folder.claim(7) and folder.claim(7)
    assert not folder.claim(8)
    assert folder.claimed_by() == 7


def test_a_node_that_joins_is_told_its_line_or_what_is_missing(tmp_path: Path) -> None:
    machine = Machine("n1", cores=8, memory_bytes=17 << 30, gpus=(Accelerator(0, "H100", 80 << 30),))
    line = "NodeName=n1 CPUs=8 RealMemory=16384 Gres=gpu:h100:1 State=UNKNOWN"
    assert gres_line("n1", machine) == "NodeName=n1 Name=gpu Type=h100 File=/dev/nvidia0"
    assert node_line("n1", machine) == line
    assert dynamic_line("n1", machine) == "slurmd -Z --conf 'CPUs=8 RealMemory=16384 Gres=gpu:h100:1' -N n1"
    assert [slurm_version(text) for text in ("slurm-wlm 22.05.8\n", "slurm 25.11.0rc1", "")] == [
        (22, 5),
        (25, 11),
        None,
    ]
    joined = join("n1", tmp_path / "nowhere", tmp_path / "work")
    assert not joined.ok and not joined.lines
    assert any(not check.ok and "mount the shared folder" in check.message for check in joined.checks)
