"""What Slurm's accounting says of jobs, and what follows. The texts were printed by Slurm 22.05 with slurmdbd."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from skerry.compute.engines.base import EndCause, EngineUnavailable, GangState, RankEnd
from skerry.compute.engines.slurm.accounting import Accounting, accounted, has_keeper
from skerry.compute.engines.slurm.cli import SlurmError
from skerry.compute.engines.slurm.ledger import JobRecord
from skerry.compute.engines.slurm.parsing import Job
from skerry.compute.engines.slurm.states import Sight, gang_state, is_untold, told_by
from skerry.compute.model import Outcome
from skerry.kernel.ids import AttemptId

PRINTED = """\
1|COMPLETED|1795355655|1795355658|skerry-m-att_ok
2|FAILED|1795355655|1795355658|skerry-m-att_fail
3|CANCELLED by 0|1795355655|1795355657|skerry-m-att_cancel
4|RUNNING|1795355660|Unknown|skerry-m-att_gang
5|NODE_FAIL|1795355657|1795355660|skerry-m-att_nf
6|PENDING|Unknown|Unknown|skerry-m-att_pend
7|REQUEUED|1795355655|1795355657|skerry-m-att_rq
7|RUNNING|1795355657|Unknown|skerry-m-att_rq
"""
CONFIG = """\
AccountingStorageTRES   = cpu,mem,energy,node,billing,fs/disk,vmem,pages,gres/gpu
AccountingStorageType   = {}
AccountingStorageUser   = N/A
"""
NOW = datetime.fromtimestamp(1795355700, UTC)
ENDED = datetime.fromtimestamp(1795355660, UTC)
ALONE = JobRecord(AttemptId("att_1"), NOW, ("n1",), job=5)


class FakeCli:
    """Answers as Slurm did. `away`: what the commands raise instead."""

    def __init__(self, storage: str = "accounting_storage/slurmdbd", away: Exception | None = None) -> None:
        self.storage, self.away = storage, away
        self.asked: list[str] = []

    async def run(self, *argv: str, stdin: str = "") -> str:
        self.asked.append(argv[0])
        if argv[0] == "scontrol":
            return CONFIG.format(self.storage)
        if self.away is not None:
            raise self.away
        job = argv[argv.index("-j") + 1]
        return "".join(line + "\n" for line in PRINTED.splitlines() if line.startswith(f"{job}|"))


def test_runs_of_jobs_are_read() -> None:
    found = accounted(PRINTED + "8.batch|COMPLETED|1|2|batch\nnonsense\n\n")
    assert [one.job.id for one in found] == [1, 2, 3, 4, 5, 6, 7, 7], "steps and nonsense are left out"
    assert found[2].job == Job(3, "CANCELLED", "skerry-m-att_cancel")
    assert found[4].end == ENDED and found[3].end is None
    assert found[5].start is None


@pytest.mark.parametrize(
    ("job", "state"),
    [(1, "COMPLETED"), (3, "CANCELLED"), (5, "NODE_FAIL"), (4, None), (6, None), (7, None), (99, None)],
)
async def test_only_what_is_over_has_an_end(job: int, state: str | None) -> None:
    found = await Accounting(FakeCli()).end_of(job)
    assert (found.job.state if found else None) == state


@pytest.mark.parametrize("storage", ["accounting_storage/none", "(null)", "accounting_storage/filetxt"])
async def test_without_slurmdbd_nobody_asks(storage: str) -> None:
    cli = FakeCli(storage)
    accounting = Accounting(cli)
    assert [await accounting.end_of(5), await accounting.end_of(5)] == [None, None]
    assert cli.asked == ["scontrol"] and not has_keeper(CONFIG.format(storage))


@pytest.mark.parametrize("error", [SlurmError("sacct: Problem talking to the database"), EngineUnavailable("away")])
async def test_books_that_cannot_be_read_say_nothing(error: Exception) -> None:
    assert await Accounting(FakeCli(away=error)).end_of(5) is None


async def test_a_job_that_slurm_has_forgotten_ends_as_its_books_say() -> None:
    seen = Sight(ALONE, None, {}, {}, alive=False, at=NOW)
    assert is_untold(seen)
    assert _end(gang_state(seen)).at == NOW, "without them: when it was seen to be gone"
    end = _end(gang_state(told_by(seen, await Accounting(FakeCli()).end_of(5))))
    assert (end.cause, end.outcome, end.at) == (EndCause.UNOBSERVED, Outcome.LOST, ENDED)
    assert "NODE_FAIL" in end.message
    assert told_by(seen, None) is seen


def test_an_end_in_the_future_is_not_believed() -> None:
    early = Sight(ALONE, None, {}, {}, alive=False, at=datetime.fromtimestamp(1795355650, UTC))
    assert told_by(early, accounted(PRINTED)[4]).at == early.at


def test_what_a_node_has_said_needs_no_books() -> None:
    running = Sight(ALONE, Job(5, "RUNNING", ""), {}, {}, alive=True, at=NOW)
    assert not is_untold(running)
    assert not is_untold(replace(running, record=JobRecord(AttemptId("att_1"), NOW)))


def _end(state: GangState) -> RankEnd:
    assert state.end is not None
    return state.end
