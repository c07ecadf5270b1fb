"""The wrapper as engines start it: what the command finds, what it cannot reach, and how it ends."""

import os
import signal
from pathlib import Path

import pytest

from skerry.compute.engines.embedded import processes
from skerry.compute.task import program
from skerry.compute.task.ends import CannotRun
from skerry.compute.task.order import MountOrder, SandboxWish, TaskOrder
from tests.compute.task.conftest import FIRST_UID, ROOT, SANDBOX, Make

sandboxed = pytest.mark.skipif(not SANDBOX, reason="bubblewrap does not work on this machine")
as_root = pytest.mark.skipif(not ROOT, reason="only root can become a project's user")
BOTH = [pytest.param(True, marks=sandboxed, id="sandbox"), pytest.param(False, id="no sandbox")]


@pytest.fixture(params=BOTH)
def isolated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The order's and environment's part of a task with the sandbox, and of one of a trusted project without."""
    if request.param:
        return {}
    return {"sandbox": SandboxWish.NONE}


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 137", 137),
        ("kill -KILL $$", -signal.SIGKILL),
        ("kill -TERM $$", -signal.SIGTERM),
        ("kill -SEGV $$", -signal.SIGSEGV),
    ],
)
def test_it_ends_exactly_as_the_command_ended(make: Make, isolated: dict, script: str, code: int) -> None:
    assert make("sh", "-c", script, **isolated).run() == code


def test_a_command_that_does_not_exist_is_127_and_said(make: Make, isolated: dict) -> None:
    task = make("no-such-command", **isolated)
    assert task.run() == 127
    assert task.log.startswith("skerry: no such command: no-such-command")


def test_a_file_that_cannot_be_executed_is_126(make: Make, isolated: dict) -> None:
    task = make("/etc/hosts", **isolated)
    assert task.run() == 126
    assert "cannot be executed" in task.log


def test_signals_reach_the_whole_command_once(make: Make, isolated: dict) -> None:
    wait = "while :; do sleep 0.05; done"
    below = f"trap 'echo below; exit' TERM; trap '' USR1; echo up; {wait}"
    script = f"trap 'wait $!; echo told; exit 3' TERM; trap 'echo one' USR1; ({below}) & echo up; {wait}"
    task = make("bash", "-c", script, **isolated).start()
    while task.log.count("up") < 2:
        task.until_logged("up")
    os.killpg(task.process.pid, signal.SIGUSR1)
    task.until_logged("one")
    os.killpg(task.process.pid, signal.SIGTERM)
    assert task.wait() == 3
    assert task.log.count("told") == task.log.count("below") == task.log.count("one") == 1


def test_a_killed_wrapper_leaves_nothing_behind(make: Make, isolated: dict) -> None:
    mark = f"test-{os.getpid()}"
    isolated = {**isolated, "environment": {"SKERRY_ENGINE": mark}}
    task = make("sh", "-c", "sleep 600 & setsid sleep 600 & echo up; sleep 600", **isolated).start()
    task.until_logged("up")
    os.kill(task.process.pid, signal.SIGKILL)
    task.wait()
    left = ["?"]
    for _ in range(500):
        left = [one.stat.pid for one in processes.marked_processes(mark)]
        # Without a sandbox a process that left the group is the engine's to sweep.
        if len(left) <= (0 if isolated.get("sandbox") is None else 1):
            break
        signal.sigtimedwait([], 0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert len(left) <= (0 if isolated.get("sandbox") is None else 1)


def test_the_environment_is_allow_listed(make: Make, isolated: dict) -> None:
    given = {"MINE": "1", "SKERRY_RANK": "9", "LD_PRELOAD": "/evil.so", "PATH": "/my/bin:/usr/bin:/bin"}
    isolated = {**isolated, "environment": {"SECRET": "s", "SKERRY_LIFELINE_FD": ""}}
    task = make("env", env=given, **isolated)
    assert task.run() == 0
    found = dict(line.split("=", 1) for line in task.log.splitlines() if "=" in line)
    assert found["MINE"] == "1" and found["SKERRY_RANK"] == "0" and found["LD_PRELOAD"] == "/evil.so"
    assert found["HOME"] == str(task.work) and found["PWD"].endswith("/source") if "PWD" in found else True
    assert "SECRET" not in found and "SKERRY_LIFELINE_FD" not in found
    assert found["SKERRY_API_URL"].startswith("http://127.0.0.1:")


def test_the_order_is_gone_before_the_command_runs(make: Make, isolated: dict) -> None:
    task = make("sh", "-c", "ls $SKERRY_FILES; stat -c %a $SKERRY_FILES $SKERRY_FILES/node-token", **isolated)
    assert task.run() == 0
    assert task.log.split() == ["node-token", "700", "600"]


def test_a_report_can_be_written(make: Make, isolated: dict) -> None:
    task = make("sh", "-c", 'echo "{}" > $SKERRY_REPORT && echo ok', **isolated)
    assert task.run() == 0
    assert (task.work / "report.json").read_text() == "{}\n"


@as_root
def test_the_command_is_its_project_s_user_without_any_privilege(make: Make, isolated: dict) -> None:
    task = make("sh", "-c", "id -u; id -g; id -G; grep -E 'Cap|NoNew' /proc/self/status", number=2, **isolated)
    assert task.run() == 0
    lines = task.log.splitlines()
    assert lines[:3] == [str(FIRST_UID + 2)] * 3
    assert {line.split()[1] for line in lines[3:] if line.startswith("Cap")} == {"0" * 16}
    assert "NoNewPrivs:\t1" in lines


@sandboxed
def test_the_sandbox_has_nothing_that_it_need_not_have(make: Make) -> None:
    closed = (
        "/etc/shadow", "/etc/skerry", "/etc/ssh", "/root/.ssh", "/home", "/var", "/run", "/opt", "/sys/fs",
        "/sys/kernel", "/dev/vda", "/dev/kmsg", "/dev/mem", "/boot", "/mnt",
    )  # fmt: skip
    task = make("sh", "-c", f"for path in {' '.join(closed)}; do test -e $path && echo $path; done; echo looked")
    assert task.run() == 0
    assert task.log == "looked\n"


@sandboxed
def test_the_sandbox_hides_the_installation_and_other_projects(make: Make, node: Path) -> None:
    home = node / "home"
    home.mkdir()
    (home / "secret.key").write_text("k")
    other = make(
        "sh", "-c", "echo theirs > $HOME/data; chmod 777 $HOME $HOME/data; echo up; sleep 600", number=2
    ).start()
    other.until_logged("up")
    script = f"ls {node}; ls {home} {other.work}; ps -e | grep -c sleep; kill -9 {other.process.pid}; exit 0"
    task = make("sh", "-c", script, number=1, hidden=(str(home),))
    assert task.run() == 0
    assert task.log.splitlines()[0] == task.work.name
    assert "secret.key" not in task.log and "data" not in task.log
    assert other.process.poll() is None


@sandboxed
def test_what_is_hidden_stays_so_within_what_is_shown(make: Make, node: Path) -> None:
    """An installation that lives below a folder that every task may read."""
    (node / "opt/skerry").mkdir(parents=True)
    (node / "opt/skerry/secret.key").write_text("k")
    (node / "opt/tool").write_text("t")
    shown = {"shown": (str(node / "opt"),), "hidden": (str(node / "opt/skerry"),)}
    task = make("sh", "-c", f"cat {node}/opt/tool; ls -A {node}/opt/skerry; touch {node}/opt/new", **shown)
    assert task.run() != 0
    assert task.log.startswith("t") and "secret.key" not in task.log and "Read-only" in task.log


@as_root
def test_projects_cannot_read_each_other_s_files_even_without_a_sandbox(make: Make, node: Path) -> None:
    plain = {"sandbox": SandboxWish.NONE}
    other = make("sh", "-c", "echo theirs > $HOME/data; chmod 644 $HOME/data; echo up; sleep 600", number=2, **plain)
    other.start().until_logged("up")
    task = make(
        "sh", "-c", f"cat {other.work}/data {other.work}/files/node-token; ls {other.work}; ls -d {node}", **plain
    )
    assert task.run() == 0
    assert "theirs" not in task.log and "snt_first" not in task.log
    assert task.log.count("Permission denied") == 3
    assert (node / f"{other.work.name}").exists()


@sandboxed
def test_without_the_host_s_network_there_is_a_loopback_of_its_own(make: Make) -> None:
    script = "cat /proc/net/dev | grep -c :; hostname; getent hosts task || true"
    task = make("sh", "-c", script)
    assert task.run() == 0
    assert task.log.split()[:2] == ["1", "task"]


@sandboxed
def test_a_gang_has_the_host_s_network(make: Make) -> None:
    task = make("sh", "-c", "readlink /proc/self/ns/net", network=True)
    assert task.run() == 0
    assert task.log.strip() == os.readlink("/proc/self/ns/net")


@sandboxed
def test_python_and_its_packages_are_there_wherever_they_are_installed(make: Make) -> None:
    script = "import skerry.compute.task.order, msgspec, sys; print(sys.prefix)"
    task = make("python", "-c", script)
    assert task.run() == 0, task.log


@sandboxed
def test_mounts_are_seen_where_they_are_wanted(make: Make, node: Path) -> None:
    (node / "vol/proj/data").mkdir(parents=True)
    (node / "vol/proj/data/f").write_text("kept\n")
    mounts = (
        MountOrder("checkpoints", f"{node}/state/checkpoints/proj", "job_1", "/checkpoints"),
        MountOrder("volume", f"{node}/vol/proj", "data", "/data/set", read_only=True, make=False),
    )
    script = "cat /data/set/f; touch /data/set/g; echo $SKERRY_CHECKPOINT_DIR; mkdir /checkpoints/step_1; id -u"
    task = make("sh", "-c", script, mounts=mounts)
    assert task.run() == 0, task.log
    assert "kept" in task.log and "Read-only" in task.log and "/checkpoints\n" in task.log
    made = node / "state/checkpoints/proj/job_1"
    assert (made / "step_1").is_dir() and made.stat().st_mode & 0o077 == 0


@sandboxed
def test_a_volume_that_is_not_there_is_said(make: Make, node: Path) -> None:
    task = make("true", mounts=(MountOrder("volume", str(node), "nowhere", "/data", make=False),))
    assert task.run() == 78
    assert task.log == "skerry: /data: there is no volume nowhere on this node\n"


@sandboxed
def test_a_link_below_a_shared_folder_leads_nowhere(make: Make, node: Path) -> None:
    """A project can write to its shared folder: a link there must not become a way to what is another's."""
    (node / "shared/proj").mkdir(parents=True)
    (node / "others").mkdir()
    (node / "shared/proj/code").symlink_to(node / "others")
    task = make("true", mounts=(MountOrder("shared", f"{node}/shared/proj", "code", "/code", make=False),))
    assert task.run() == 78
    assert "/code" in task.log and "cannot be used" in task.log


def test_untrusted_code_does_not_run_without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.sandbox, "probe", lambda: "bubblewrap (bwrap) is not installed")
    with pytest.raises(CannotRun, match=r"no isolation .* bubblewrap \(bwrap\) is not installed") as caught:
        program._sandboxed(TaskOrder(("true",), ""))
    assert caught.value.code == 78
    assert not program._sandboxed(TaskOrder(("true",), "", sandbox=SandboxWish.WANTED))


@as_root
def test_a_number_that_is_somebody_else_s_is_not_used(make: Make) -> None:
    task = make("id")
    object.__setattr__(task.order.user, "uid", 65534)  # nobody's
    assert task.run() == 78
    assert "SKERRY_PROJECT_UIDS" in task.log


def test_an_order_of_another_version_counts_as_our_fault(make: Make) -> None:
    task = make("true", version=99)
    assert task.run() == -signal.SIGKILL
    assert task.log.startswith("skerry: the order has version 99")
