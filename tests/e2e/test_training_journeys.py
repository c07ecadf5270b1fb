"""Training on a whole cloud of four nodes: jobs that lose what they run on, and what they are charged for it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from skerry.client import ApiError, Skerry
from skerry.client.answers.training import TrainingJob
from tests.cloud import Cloud, eventually_equal
from tests.waiting import eventually_sync

pytestmark = pytest.mark.cloud

NODES = 4
EXAMPLE = Path(__file__).parents[2] / "examples/training"
STEPS, SAVE_EVERY = 60, 10
TRAIN = ["torchrun", "train_text.py", "--steps", str(STEPS), "--save-every", str(SAVE_EVERY)]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
LONG = ["sleep", "600"]
END_SECONDS = 120.0

COUNTING = """
import itertools, json, os, time
from skerry.training import user

before = user.latest_checkpoint()
begin = int((before / "count").read_text()) if before else 0
for step in itertools.count(begin + 1):
    print(json.dumps({"step": step, "begun_at": begin}), flush=True)
    user.step(step)
    stop = user.should_stop()
    if stop or step - begin == 5:
        folder = user.checkpoint_folder() / f"step_{step}"
        folder.mkdir()
        (folder / "count").write_text(str(step))
        (folder / ".metadata").write_text("")
    if stop or (before and step - begin == 10):
        break
    time.sleep(0.02)
"""
"""Goes on for ever; once it has been interrupted, ten steps."""

PRYING = """
import json, os, sys

home = sys.argv[1]
found = {"user": os.getuid(), "processes": sum(name.isdigit() for name in os.listdir("/proc"))}
for name in ("", "credentials.toml", "pg", "logs", "checkpoints"):
    try:
        path = os.path.join(home, name)
        found[name] = os.listdir(path) if os.path.isdir(path) else open(path).read()
    except OSError as error:
        found[name] = error.strerror
print(json.dumps(found), flush=True)
"""


HIDDEN = ("credentials.toml", "pg", "logs", "checkpoints")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cloud]:
    cloud = Cloud(spot_notice_seconds="20", bind_lead_seconds="1")
    try:
        yield cloud.start("--virtual-nodes", str(NODES))
    finally:
        cloud.close()


@pytest.fixture(scope="module")
def owner(nodes: Cloud) -> Iterator[Skerry]:
    """Of the first project, which is trusted."""
    with Skerry(nodes.url, nodes.project_key) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(nodes: Cloud) -> Iterator[Skerry]:
    """Of another project of the same organization, which is not trusted."""
    made = nodes.post("/api/v1/projects", {"name": "stranger", "organization": "demo"})
    assert made.status_code == 201, made.text
    key = nodes.post("/api/v1/api-keys?project=stranger", {"name": "s", "scopes": ["read", "write", "inference"]})
    assert key.status_code == 201, key.text
    with Skerry(nodes.url, key.json()["key"]) as client:
        yield client


@pytest.fixture(scope="module")
def parts(owner: Skerry, stranger: Skerry) -> tuple[str, str]:
    """Of a reservation that is about to begin: the owner's, and what was split off for the stranger."""
    quote = owner.quotes.create("local", nodes=2, duration_seconds=3600, start_at=_soon(15))
    own = owner.reservations.create(quote.offers[0].id, name="shared", confirm=True)
    split = owner.reservations.change(own.id, owner.reservations.quote_split(own.id, {"stranger": 1}).id)
    [part] = split.created
    return own.id, part


def test_what_a_killed_process_costs_is_time_that_nobody_pays(nodes: Cloud, owner: Skerry, tmp_path: Path) -> None:
    source = _uploaded(owner, tmp_path, EXAMPLE)
    quiet, hit = [
        owner.jobs.create(name, TRAIN, nodes=2, source=source, env=ONE_THREAD, max_duration_seconds=1800)
        for name in ("undisturbed", "disturbed")
    ]
    rank = _process(owner, hit.id, 1)
    complete = f"checkpoints/*/{hit.id}/step_{SAVE_EVERY}/.metadata"
    eventually_sync(lambda: list(nodes.settings.state.glob(complete)), END_SECONDS)
    rank.kill()
    nodes.kill("controller")

    quiet, hit = [owner.jobs.wait(job.id, timeout=END_SECONDS) for job in (quiet, hit)]
    assert [(job.status, job.restarts) for job in (quiet, hit)] == [("succeeded", 0), ("succeeded", 1)], nodes.words()
    assert hit.last_restart is not None
    assert (hit.last_restart.rank, hit.last_restart.charged) == (1, False)
    assert hit.last_restart.resumed_step is not None
    assert hit.last_restart.resumed_step >= SAVE_EVERY
    ends = [list(owner.jobs.metrics(job.id, name="loss"))[-1] for job in (quiet, hit)]
    assert ends[0].step == ends[1].step == STEPS
    assert round(ends[0].value, 5) == round(ends[1].value, 5)
    assert _taken_off(nodes, quiet) == {"startup"}
    assert _taken_off(nodes, hit) > {"startup"}, "what the killed process cost, too"
    for job in (quiet, hit):
        _check_charged_once(nodes, job)


def test_reclaimed_spot_work_saves_leaves_and_goes_on_when_there_is_room(
    nodes: Cloud, owner: Skerry, tmp_path: Path
) -> None:
    source = _uploaded(owner, tmp_path, _program(tmp_path, COUNTING))
    spot = owner.jobs.create(
        "spot", ["python", "main.py"], launcher="none", source=source, capacity_class="spot", nodes=1
    )
    eventually_sync(lambda: _saved(owner, spot.id) > 0, END_SECONDS)
    first = owner.jobs.get(spot.id).attempt_id

    [(each,)] = nodes.query("SELECT accelerators_per_node FROM skus WHERE name = 'local'")
    wide = owner.jobs.create(
        "wide", LONG, launcher="none", nodes=NODES, accelerators_per_task=each, max_duration_seconds=600
    )
    eventually_equal(lambda: owner.jobs.get(wide.id).status, "running", END_SECONDS)
    eventually_equal(lambda: owner.jobs.get(spot.id).status, "queued", END_SECONDS)
    told = owner.jobs.get(spot.id)
    assert told.attempt_id == first, "there is no room for another"
    [ended] = _attempts(nodes, told)
    assert ended.outcome == "preempted"
    assert "workload.reclaim_notice" in {event.type for event in owner.events.of("workloads", told.workload_id)}
    folders = nodes.settings.state.glob(f"checkpoints/*/{spot.id}/step_*")
    saved = max(int(folder.name.removeprefix("step_")) for folder in folders)

    owner.jobs.cancel(wide.id)
    spot = owner.jobs.wait(spot.id, timeout=END_SECONDS, poll=0.1)
    assert (spot.status, spot.restarts, spot.attempts) == ("succeeded", 0, 2)
    steps = [point.step for point in owner.jobs.metrics(spot.id, name="begun_at") if point.value]
    assert steps == list(range(saved + 1, saved + 11)), "it went on where it had been interrupted"
    for job in (spot, owner.jobs.wait(wide.id, timeout=END_SECONDS)):
        _check_charged_once(nodes, job)


@pytest.mark.usefixtures("parts")  # so that they begin meanwhile
def test_code_of_strangers_sees_nothing_of_the_cloud_and_its_end_says_why(
    nodes: Cloud, stranger: Skerry, tmp_path: Path
) -> None:
    source = _uploaded(stranger, tmp_path, _program(tmp_path, PRYING))
    commands = {
        "pry": ["python", "main.py", str(nodes.home)],
        "missing": ["no-such-program", "--fast"],
        "failing": ["sh", "-c", "echo cannot go on; exit 3"],
    }
    made = [
        stranger.jobs.create(name, command, launcher="none", source=source, max_restarts=0)
        for name, command in commands.items()
    ]
    pry, missing, failing = [stranger.jobs.wait(job.id, timeout=END_SECONDS, poll=0.1) for job in made]
    assert pry.status == "succeeded", _log(stranger, pry)
    [seen] = [json.loads(line) for line in _log(stranger, pry).splitlines() if line.startswith("{")]
    own = {"user", "processes", ""}
    assert {name: seen[name] for name in seen.keys() - own} == dict.fromkeys(HIDDEN, "No such file or directory")
    assert seen[""] in (["tasks"], "No such file or directory"), "its own folder at most"
    assert seen["user"] not in (0, os.getuid())
    assert seen["processes"] < 10

    ends = [(job.status, job.exit_code, job.status_reason.code) for job in (missing, failing) if job.status_reason]
    assert ends == [("failed", 127, "command_not_found"), ("failed", 3, "command_failed")]
    for job, words in ((missing, "no-such-program"), (failing, "cannot go on")):
        assert words in _log(stranger, job)
        assert job.status_reason is not None
        assert words in job.status_reason.message, job.status_reason


def test_projects_that_share_a_reservation_have_a_part_each(
    nodes: Cloud, owner: Skerry, stranger: Skerry, parts: tuple[str, str]
) -> None:
    own, part = parts
    says = ["sh", "-c", "echo my node is $SKERRY_NODE_NAME"]
    for client, theirs, status, code in (
        (owner, part, 404, "unknown_reservation"),
        (stranger, own, 404, "unknown_reservation"),
    ):
        with pytest.raises(ApiError) as refused:
            client.jobs.create("x", says, launcher="none", reservation_id=theirs)
        assert (refused.value.status, refused.value.code) == (status, code)
    for client, reservation in ((owner, own), (stranger, part)):
        with pytest.raises(ApiError) as refused:
            client.jobs.create("x", says, launcher="none", nodes=2, reservation_id=reservation)
        assert (refused.value.status, refused.value.code) == (422, "too_many_nodes")

    jobs = [
        client.jobs.create("x", says, launcher="none", reservation_id=reservation)
        for client, reservation in ((owner, own), (stranger, part))
    ]
    jobs = [
        client.jobs.wait(job.id, timeout=END_SECONDS, poll=0.1)
        for client, job in zip((owner, stranger), jobs, strict=True)
    ]
    assert [(job.status, job.capacity_class) for job in jobs] == [("succeeded", "reserved")] * 2, jobs
    assert len({attempt.nodes for job in jobs for attempt in _attempts(nodes, job)}) == 2, (
        "though one node has room for both"
    )


# --- what they do


def _uploaded(client: Skerry, scratch: Path, folder: Path) -> str:
    archive = shutil.make_archive(str(scratch / "source"), "gztar", folder)
    return client.files.upload(archive, purpose="source").id


def _program(scratch: Path, text: str) -> Path:
    folder = scratch / "program"
    folder.mkdir()
    (folder / "main.py").write_text(text)
    return folder


def _saved(client: Skerry, job: str) -> int:
    """The step of the newest checkpoint that its supervisor spoke of."""
    progress = client.jobs.get(job).progress
    return (progress.checkpoint_step or 0) if progress is not None else 0


def _process(client: Skerry, job: str, rank: int) -> psutil.Process:
    """That of a rank, as soon as there is one."""
    found: list[psutil.Process] = []

    def look() -> bool:
        attempt = client.jobs.get(job).attempt_id
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if process.info["name"] == f"rank {rank}" and process.environ().get("SKERRY_ATTEMPT") == attempt:
                    found.append(process)
        return bool(found)

    eventually_sync(look, END_SECONDS)
    return found[0]


# --- what is on record


@dataclass(frozen=True)
class Attempt:
    nodes: tuple[str, ...]
    accelerators: int
    outcome: str | None
    ran: int
    """Whole seconds that it could be charged for."""


def _attempts(cloud: Cloud, job: TrainingJob) -> list[Attempt]:
    rows = cloud.query(
        "SELECT nodes, accelerators, outcome, coalesce(floor(extract(epoch FROM ended_at - ready_at)), 0)"
        " FROM attempts WHERE workload_id = %s ORDER BY n",
        job.workload_id,
    )
    return [Attempt(tuple(nodes), accelerators, outcome, int(ran)) for nodes, accelerators, outcome, ran in rows]


def _check_charged_once(cloud: Cloud, job: TrainingJob) -> None:
    """The facts say what the attempts ran, less what was taken off, and the customer is shown the same."""
    excluded = "SELECT coalesce(sum(quantity), 0) FROM attempt_exclusions x JOIN attempts a ON a.id = x.attempt_id"
    [(off,)] = cloud.query(f"{excluded} WHERE a.workload_id = %s", job.workload_id)
    facts = "SELECT coalesce(sum(quantity) FILTER (WHERE quantity > 0), 0), coalesce(sum(quantity), 0) FROM usage_facts"
    [found] = cloud.query(f"{facts} WHERE meter = 'accelerator_seconds' AND resource = %s", job.id)
    ran = sum(attempt.accelerators * attempt.ran for attempt in _attempts(cloud, job))
    assert tuple(map(int, found)) == (ran, ran - int(off)), (job, found, off)
    assert job.excluded_accelerator_seconds == off
    usage = cloud.get(f"/api/v1/workloads/{job.workload_id}", cloud.project_key).json()["usage"]
    assert usage["accelerator_seconds"] == ran - off


def _taken_off(cloud: Cloud, job: TrainingJob) -> set[str]:
    """What the time that is not charged was lost to."""
    rows = cloud.query(
        "SELECT DISTINCT split_part(key, '-', 1) FROM attempt_exclusions x JOIN attempts a ON a.id = x.attempt_id"
        " WHERE a.workload_id = %s AND quantity > 0",
        job.workload_id,
    )
    return {loss for (loss,) in rows}


def _log(client: Skerry, job: TrainingJob) -> str:
    with client.jobs.logs(job.id) as stream:
        return stream.read().decode()


def _soon(seconds: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
