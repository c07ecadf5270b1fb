"""The launcher with all it starts: who runs as whom, taking over after its death, and a database it does not know."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry import __version__
from tests.cloud import ROLES, Cloud

pytestmark = pytest.mark.cloud

KEEP_ROOT = {"launcher", "agent"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    try:
        yield cloud.start()
    finally:
        cloud.close()


def _status(cloud: Cloud) -> dict[str, Any]:
    done = cloud.server("status", "--json")
    assert done.returncode == 0
    status: dict[str, Any] = json.loads(done.stdout)
    return status


def _ids(pid: int, name: str) -> list[int]:
    """Real, effective, saved and file system ids of a process: `Uid`, `Gid`; or its `Groups`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return [int(word) for word in line.split()[1:]]
    raise AssertionError(name)


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def test_status_tells_of_every_process(cloud: Cloud) -> None:
    status = _status(cloud)
    assert set(status) == {"url", "version", "ready", "processes"}
    assert (status["url"], status["version"], status["ready"]) == (cloud.url, __version__, True)
    assert {row["role"] for row in status["processes"]} == set(ROLES)
    for row in status["processes"]:
        assert row["status"] == "running" and Path(f"/proc/{row['pid']}").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root has no root to keep from anybody")
def test_nobody_but_launcher_and_agent_is_root(cloud: Cloud) -> None:
    rows = {row["role"]: row["pid"] for row in _status(cloud)["processes"]}
    roots = {role for role, pid in rows.items() if 0 in [*_ids(pid, "Uid"), *_ids(pid, "Gid")]}
    assert roots == KEEP_ROOT
    kept = {rows[role] for role in KEEP_ROOT}
    for pid in _family(rows["launcher"]):
        if pid not in kept:
            assert 0 not in [*_ids(pid, "Uid"), *_ids(pid, "Gid"), *_ids(pid, "Groups")], Path(
                f"/proc/{pid}/cmdline"
            ).read_text()
    assert len({_ids(rows[role], "Uid")[0] for role in ("database", "gateway", "replica")}) == 3, "each its own user"
    for role in ("gateway", "shipper", "server", "controller", "replica"):
        assert _ids(rows[role], "NoNewPrivs") == [1], role


@pytest.mark.skipif(os.geteuid() != 0, reason="files are one user's then")
def test_what_is_secret_only_its_owner_can_read(cloud: Cloud) -> None:
    for name in ("secret.key", "credentials.toml"):
        assert (cloud.home / name).stat().st_mode & 0o077 == 0 and (cloud.home / name).stat().st_uid == 0
    assert (cloud.settings.state / "journal").stat().st_mode & 0o077 == 0
    assert (cloud.settings.state / "postgres").stat().st_mode & 0o077 == 0


def test_a_second_one_in_the_same_home_is_refused_and_harms_nothing(cloud: Cloud) -> None:
    done = cloud.server("up", "--port", str(cloud.port), "--detach")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"skerry: {cloud.home} is in use by a running Skerry")
    assert _status(cloud)["ready"]


def test_up_at_once_after_kill_9_of_the_launcher_takes_over(cloud: Cloud) -> None:
    keys, before = (cloud.operator_key, cloud.project_key), set(cloud.processes())
    cloud.kill("launcher")
    cloud.start()  # the old one's children are still ending
    assert (cloud.operator_key, cloud.project_key) == keys
    cloud.wait_ready()
    adopted = {row["pid"] for row in _status(cloud)["processes"] if row["role"] == "replica"}
    assert before & set(cloud.processes()) <= adopted, "nobody of the old cloud is left, but what was adopted"


def test_a_database_of_a_newer_version_is_refused_in_one_line(cloud: Cloud) -> None:
    ((known,),) = cloud.query("UPDATE alembic_version SET version_num = '9999' RETURNING version_num")
    assert known == "9999"
    assert cloud.server("down").returncode == 0
    cloud.expect_nothing_left()
    done = cloud.server("up", "--port", str(cloud.port), "--detach")
    assert done.returncode == 2, done.stderr
    (reason,) = [line for line in done.stderr.splitlines() if line.startswith("skerry:")]
    assert "the database is from a newer version of Skerry (it has migration 9999)" in reason
    cloud.expect_nothing_left()
