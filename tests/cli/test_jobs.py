"""`skerry job`: what is packed, what is asked, what is said."""

import io
import tarfile
from pathlib import Path

import pytest

from skerry.cli import packing
from skerry.cli.failures import Failure
from tests.cli.fake_cloud import FakeCloud, listed, problem

JOB = {
    "id": "trn_1", "name": "train", "status": "queued", "status_reason": {"code": "no_node", "message": "No node."},
    "nodes": 2, "tasks_per_node": 1, "accelerators_per_task": 1, "sku": "local", "workload_id": "wl_1", "attempts": 0,
    "cost_so_far": {"amount": "0.5", "currency": "EUR"}, "created_at": "2026-11-22T14:00:00Z", "restarts": 0,
}  # fmt: skip
RESTART = {
    "cause": "rank_killed",
    "lost_seconds": 2.5,
    "rank": 1,
    "node": "n2",
    "step": 16,
    "resumed_step": 10,
    "charged": False,
}
ESTIMATE = {
    "charge_by": "time", "sku": "local", "nodes": 2, "accelerators": 2, "hourly": {"amount": "3", "currency": "EUR"},
    "price": {"amount": "1.5", "currency": "EUR"},
}  # fmt: skip
JOBS = "/api/v1/training/jobs"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    here = tmp_path / "program"
    (here / "data" / "deep").mkdir(parents=True)
    (here / ".git").mkdir()
    for name in ("train.py", "data/big.bin", "data/keep.txt", "data/deep/x.log", ".git/config", "notes.log"):
        (here / name).write_text(name)
    (here / ".gitignore").write_text("*.log\ndata/*\n!data/keep.txt\n")
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def jobs(cloud: FakeCloud) -> FakeCloud:
    ended = {**JOB, "status": "succeeded", "status_reason": {"code": "succeeded", "message": ""}, "attempts": 1}
    cloud.answers |= {
        f"POST {JOBS}": lambda asked: (200, ESTIMATE) if "dry_run" in asked.query else (201, JOB),
        f"GET {JOBS}/trn_1": (200, {**ended, "restarts": 1, "last_restart": RESTART}),
        f"GET {JOBS}/trn_1/logs": (200, b"[rank 0] hello\n"),
        f"GET {JOBS}": listed(JOB),
        "GET /v1/files": listed(),
        "POST /v1/files": (200, {"id": "file-1"}),
    }
    return cloud


def names(folder: Path) -> list[str]:
    return [entry.path for entry in packing.entries(folder)]


def test_what_git_ignores_is_not_packed(folder):
    assert names(folder) == [".gitignore", "data/keep.txt", "train.py"]


def test_the_same_folder_gives_the_same_bytes(folder, tmp_path):
    first = packing.pack(packing.entries(folder), tmp_path / "1.tar.gz")
    (folder / "train.py").touch()
    assert packing.pack(packing.entries(folder), tmp_path / "2.tar.gz").sha256 == first.sha256
    (folder / "train.py").write_text("other")
    assert packing.pack(packing.entries(folder), tmp_path / "3.tar.gz").sha256 != first.sha256


def test_links_stay_inside(folder, tmp_path):
    (folder / "in").symlink_to("train.py")
    (folder / "out").symlink_to(tmp_path)
    (folder / "nowhere").symlink_to("missing")
    packed = packing.pack(packing.entries(folder), tmp_path / "a.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(packed.path.read_bytes())) as archive:
        assert archive.getmember("in").linkname == "train.py"
        assert {"out", "nowhere"}.isdisjoint(archive.getnames())


def test_a_folder_that_is_too_large_names_what_is(folder, monkeypatch):
    monkeypatch.setattr(packing, "MOST_UNPACKED", 10)
    with pytest.raises(Failure) as refused:
        packing.entries(folder)
    assert any(".gitignore" in line for line in refused.value.details)


def test_the_home_folder_is_not_packed(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(Failure):
        packing.entries(folder)


def test_run_shows_the_price_uploads_and_follows_to_the_end(run, jobs, folder):
    result = run(
        "job", "run", "--yes", "--nodes", "2", "--max-duration", "30m", "--", "torchrun", "train.py", "--lr", "1"
    )
    assert result.exit_code == 0, result.stderr
    assert "3 EUR an hour, at most 1.5 EUR" in result.stderr
    assert result.stdout == "[rank 0] hello\n"
    (made,) = [asked for asked in jobs.of(JOBS) if asked.method == "POST" and not asked.query]
    assert made.body["command"] == ["torchrun", "train.py", "--lr", "1"]
    assert (made.body["name"], made.body["source"], made.body["max_duration_seconds"]) == ("train", "file-1", 1800)
    assert "idempotency-key" in made.headers
    assert "rank killed (rank 1 on n2); went on from step 10 after step 16, 2.5 s lost, not charged" in result.stderr


def test_a_source_that_is_there_is_not_sent_again(run, jobs, folder, tmp_path):
    known = packing.pack(packing.entries(folder), tmp_path / "a.tar.gz").sha256
    jobs.answers["GET /v1/files"] = listed({"id": "file-9", "purpose": "source", "sha256": known})
    result = run("job", "run", "--yes", "--detach", "--", "python", "train.py")
    assert (result.exit_code, result.stdout) == (0, "trn_1\n")
    assert not [asked for asked in jobs.of("/v1/files") if asked.method == "POST"]


def test_a_source_that_is_one_file_is_wrong_use(run, jobs, folder):
    result = run("job", "run", "--yes", "--source", "train.py", "--", "python", "train.py")
    assert (result.exit_code, "train.py is a file" in result.stderr) == (2, True)
    run("job", "run", "--yes", "--source", "shared/data", "--detach", "--", "python", "train.py")
    assert jobs.of(JOBS)[-1].body["source"] == "shared/data"


def test_nothing_is_uploaded_for_what_is_refused(run, jobs, folder):
    jobs.answers[f"POST {JOBS}"] = problem(422, "too_many_accelerators", "A node has 4.")
    result = run("job", "run", "--yes", "--", "python", "train.py")
    assert (result.exit_code, "A node has 4." in result.stderr) == (1, True)
    assert not jobs.of("/v1/files")


def test_a_price_needs_a_yes(run, jobs, folder):
    assert run("job", "run", "--", "python", "train.py").exit_code == 2


def test_a_job_that_failed_is_a_failure(run, jobs, folder):
    failed = {**JOB, "status": "failed", "exit_code": 3, "attempts": 1}
    failed["status_reason"] = {"code": "command_failed", "message": "exit code 3\nTraceback\nRead the logs."}
    jobs.answers[f"GET {JOBS}/trn_1"] = (200, failed)
    result = run("job", "logs", "trn_1", "--follow")
    assert result.exit_code == 1
    assert "train is failed with exit code 3." in result.stderr
    assert "Traceback" in result.stderr


def test_lists_and_verbs(run, jobs):
    assert "trn_1" in run("job", "list").stdout
    assert '"trn_1"' in run("job", "list", "--json").stdout
    for verb in ("pause", "resume", "cancel"):
        jobs.answers[f"POST {JOBS}/trn_1/{verb}"] = (200, JOB)
        assert run("job", verb, "trn_1", *(["--yes"] if verb == "cancel" else [])).exit_code == 0
    jobs.answers[f"GET {JOBS}/trn_1/goodput"] = (
        200,
        {"goodput": 0.8, "total_seconds": 10, "productive_seconds": 8, "losses": [{"name": "redone", "seconds": 2}]},
    )  # fmt: skip
    assert "80.0%" in run("job", "goodput", "trn_1").stdout
    jobs.answers[f"GET {JOBS}"] = listed()
    assert "There are no jobs" in run("job", "list").stderr
