"""The embedded engine's parts by themselves: logs, ends, control groups, users, /proc."""

import errno
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compute.engines.base import EndCause, GangSpec, Placement
from skerry.compute.engines.embedded import processes
from skerry.compute.engines.embedded.cgroups import Cgroups
from skerry.compute.engines.embedded.ending import Evidence, judge, never_started
from skerry.compute.engines.embedded.feed import ChangeFeed
from skerry.compute.engines.embedded.logfile import LogFile
from skerry.compute.engines.embedded.records import GangRecord, StateFolder
from skerry.compute.engines.embedded.rules import ranks
from skerry.compute.engines.embedded.users import RunAs, can_reach
from skerry.compute.model import Outcome
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId
from skerry.server.roles.agent import work_folder
from tests.compute.gangs import shell

NOW = datetime(2026, 1, 1, tzinfo=UTC)

# Logs


def read_all(log: LogFile) -> list[tuple[int, bytes]]:
    """What is left, piece by piece, each with where it begins; what is missing between two was dropped."""
    pieces, offset = [], 0
    while True:
        begin, piece = log.read(offset, 7)
        if not piece:
            return pieces
        pieces.append((begin, piece))
        offset = begin + len(piece)


@settings(max_examples=60)
@given(writes=st.lists(st.binary(min_size=1, max_size=60), max_size=12), keep=st.integers(1, 3))
def test_rotation_loses_only_the_oldest_and_keeps_offsets(
    tmp_path_factory: pytest.TempPathFactory, writes: list[bytes], keep: int
) -> None:
    log = LogFile(tmp_path_factory.mktemp("log"), max_bytes=60, keep=keep)
    fd = log.create()
    written = b""
    for data in writes:
        os.write(fd, data)
        written += data
        log.rotate()
        assert log.size() == len(written)
    os.close(fd)
    pieces = read_all(log)
    for begin, piece in pieces:
        assert piece == written[begin : begin + len(piece)]
    assert sum(len(piece) for _, piece in pieces) >= min(len(written), 60), "at least one part's worth is kept"
    if pieces:
        assert pieces[-1][0] + len(pieces[-1][1]) == len(written), "the end is always there"


def test_reading_at_and_behind_the_end_is_empty(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    assert not log.exists() and log.size() == 0 and log.read(0, 10) == (0, b"")
    fd = log.create()
    os.write(fd, b"abc")
    os.close(fd)
    assert log.read(1, 1) == (1, b"b")
    assert log.read(3, 10) == (3, b"")
    assert log.read(99, 10) == (99, b"")


@pytest.mark.parametrize("truncated", [False, True])
def test_a_rotation_that_was_cut_off_is_finished_or_undone(tmp_path: Path, truncated: bool) -> None:
    log = LogFile(tmp_path, max_bytes=4, keep=2)
    (tmp_path / "output.copy").write_bytes(b"0123456789")
    (tmp_path / "output.log").write_bytes(b"new" if truncated else b"0123456789new")
    log.recover()
    assert log.read(0, 100) == (0, b"0123456789new")
    assert not (tmp_path / "output.copy").exists()


# Ends


def exited(code: int) -> int:
    return code << 8


@pytest.mark.parametrize(
    ("evidence", "cause", "outcome", "code"),
    [
        ({"status": exited(0)}, EndCause.EXITED, Outcome.SUCCEEDED, 0),
        ({"status": exited(0), "oom_kills": 1}, EndCause.EXITED, Outcome.SUCCEEDED, 0),
        ({"status": exited(7)}, EndCause.EXITED, Outcome.FAILED, 7),
        ({"status": exited(1), "oom_kills": 1}, EndCause.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY, 1),
        ({"status": signal.SIGKILL, "oom_kills": 1}, EndCause.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY, 137),
        ({"status": signal.SIGKILL}, EndCause.SIGNALLED, Outcome.LOST, 137),
        ({"status": signal.SIGKILL, "signals_sent": {9}}, EndCause.SIGNALLED, Outcome.FAILED, 137),
        ({"status": signal.SIGKILL, "asked": EndCause.CANCELLED}, EndCause.CANCELLED, Outcome.CANCELLED, 137),
        ({"status": exited(0), "asked": EndCause.CANCELLED}, EndCause.CANCELLED, Outcome.CANCELLED, 0),
        ({"status": exited(0), "asked": EndCause.ENGINE_STOPPED}, EndCause.ENGINE_STOPPED, Outcome.LOST, 0),
        ({"status": exited(1), "asked": EndCause.PEER_ENDED}, EndCause.PEER_ENDED, Outcome.CANCELLED, 1),
        ({"status": signal.SIGSEGV | 128}, EndCause.SIGNALLED, Outcome.FAILED, 139),
        ({"status": signal.SIGXCPU, "cpu_limit": 5}, EndCause.CPU_LIMIT, Outcome.TIMED_OUT, 152),
        (
            {"status": signal.SIGKILL, "cpu_limit": 5, "cpu_seconds": 10.1},
            EndCause.CPU_LIMIT,
            Outcome.TIMED_OUT,
            137,
        ),
        ({"status": signal.SIGKILL, "cpu_limit": 5, "cpu_seconds": 1.0}, EndCause.SIGNALLED, Outcome.LOST, 137),
        ({"status": None}, EndCause.UNOBSERVED, Outcome.LOST, None),
        ({"status": None, "oom_kills": 2}, EndCause.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY, None),
    ],
)
def test_whose_doing_an_end_was(evidence: dict, cause: EndCause, outcome: Outcome, code: int | None) -> None:
    end = judge(Evidence(at=NOW, **evidence))
    assert (end.cause, end.outcome, end.exit_code) == (cause, outcome, code)
    assert end.message


@pytest.mark.parametrize(
    ("number", "outcome", "code"),
    [
        (errno.ENOENT, Outcome.FAILED, 127),
        (errno.EACCES, Outcome.FAILED, 126),
        (errno.ENOEXEC, Outcome.FAILED, 126),
        (errno.EAGAIN, Outcome.LOST, None),
        (errno.ENOSPC, Outcome.LOST, None),
    ],
)
def test_a_failure_to_start_is_the_commands_or_ours(number: int, outcome: Outcome, code: int | None) -> None:
    end = never_started(NOW, OSError(number, os.strerror(number)), "/bin/x")
    assert (end.cause, end.outcome, end.exit_code) == (EndCause.NOT_STARTED, outcome, code)


# Gangs


def test_accelerators_are_shared_out_evenly_in_order() -> None:
    spec = GangSpec(
        AttemptId("att_1"),
        WorkloadId("wl_1"),
        ProjectId("proj_1"),
        (Placement("a", 2, (0, 1, 2)), Placement("b", 1, (5,))),
        ("/bin/true",),
    )
    assert ranks(spec) == [("a", (0, 1)), ("a", (2,)), ("b", (5,))]


def test_records_survive_and_nonsense_is_unknown(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.save_gang(GangRecord(AttemptId("att_1"), NOW, placements=(Placement("a", 1),), cancelled_at=NOW))
    (tmp_path / "att_2").mkdir()
    (tmp_path / "att_2/gang.json").write_text("{ torn")
    assert [record.attempt for record in state.gangs()] == ["att_1"]
    assert oct((tmp_path / "att_1/gang.json").stat().st_mode)[-3:] == "600"


def test_a_gang_does_not_show_its_secrets() -> None:
    assert "s3cret" not in repr(shell("true", files={"key": "s3cret"}))


async def test_a_cursor_that_is_too_old_means_look_at_everything() -> None:
    feed = ChangeFeed()
    start = (await feed.wait("", 0)).cursor
    for n in range(5000):
        feed.publish(AttemptId(f"att_{n}"))
    assert (await feed.wait(start, 0)).reset
    recent = await feed.wait((await feed.wait("", 0)).cursor, 0)
    assert recent.attempts == () and not recent.reset


# Control groups


def fake_v2(root: Path, own: str, controllers: str = "cpu memory pids") -> tuple[Path, Path]:
    """A version 2 tree of plain files: (mount, own group)."""
    for folder in (root, *[root / part for part in (own, Path(own).parent) if str(part) != "."]):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", ""),
            ("cgroup.procs", ""),
        ):
            (folder / name).write_text(content)
    return root, root / own


def test_version_2_groups_get_their_limits_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount, own = fake_v2(tmp_path, "service")
    name = own / "skerry-x"
    made: Callable[..., None] = Path.mkdir

    def mkdir(self: Path, *args: object, **kwargs: object) -> None:
        """A new folder of a control group tree has its files."""
        made(self, *args, **kwargs)
        if str(self).startswith(str(own)):
            for file in ("cgroup.procs", "cgroup.subtree_control", "memory.max", "memory.swap.max", "pids.max"):
                (self / file).touch()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    groups = Cgroups.detect({"": (mount, own)}, "x")
    assert groups.controllers == {"memory", "pids"}
    assert (own / "cgroup.subtree_control").read_text() == "+memory +pids"
    group = groups.create("att_1-0", memory_bytes=1 << 20, processes=7)
    assert group is not None and group.folders == (str(name / "att_1-0"),)
    assert (name / "att_1-0/memory.max").read_text() == str(1 << 20)
    assert (name / "att_1-0/memory.swap.max").read_text() == "0"
    assert (name / "att_1-0/pids.max").read_text() == "7"
    (name / "att_1-0/memory.events").write_text("low 0\noom 1\noom_kill 3\n")
    assert group.oom_kills() == 3
    assert set(groups.existing()) == {"att_1-0"}


def test_where_no_group_can_be_made_there_is_none(tmp_path: Path) -> None:
    mount, own = fake_v2(tmp_path, "service", controllers="cpu io")
    assert Cgroups.detect({"": (mount, own)}, "x").controllers == frozenset()
    assert Cgroups.detect({}, "x").create("att_1-0", memory_bytes=1, processes=1) is None
    gone = {"memory": (Path("/nowhere"), Path("/nowhere/own"))}
    assert Cgroups.detect(gone, "x").controllers == frozenset()


# Users and processes


def test_whether_a_user_can_reach_a_folder(tmp_path: Path) -> None:
    stranger = RunAs(os.getuid() + 12345, os.getgid() + 12345)
    closed = tmp_path / "closed"
    inside = closed / "inside"
    inside.mkdir(parents=True)
    closed.chmod(0o700)
    assert not can_reach(stranger, inside)
    assert can_reach(RunAs(closed.stat().st_uid, closed.stat().st_gid), inside)
    assert can_reach(stranger, Path("/"))


def test_tasks_work_beside_a_home_that_is_closed_to_them(open_tmp: Path) -> None:
    stranger = RunAs(os.getuid() + 12345, os.getgid() + 12345)
    closed, shared = open_tmp / "closed-home", open_tmp / "shared"
    closed.mkdir(mode=0o700)
    assert work_folder(closed, None, shared) == closed / "tasks"
    folder = work_folder(closed, stranger, shared)
    assert folder.parent == shared and can_reach(stranger, folder)
    assert work_folder(closed, stranger, shared) == folder
    assert oct(closed.stat().st_mode)[-3:] == "700", "what is not ours is never widened"


def test_a_process_with_a_strange_name_is_read(tmp_path: Path) -> None:
    program = tmp_path / "a) R (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        stat = processes.read_stat(process.pid)
        assert stat is not None and stat.pid == process.pid and not stat.zombie
        assert processes.open_process(process.pid, stat.start_ticks + 1) is None, "another process with this number"
        fd = processes.open_process(process.pid, stat.start_ticks)
        assert fd is not None
        processes.kill_process(stat)
        os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOWAIT)
        assert processes.exit_status(process.pid, fd) == signal.SIGKILL, (
            "read from the zombie, without being its parent"
        )
        os.close(fd)
    finally:
        process.kill()
        process.wait()
    assert processes.read_stat(process.pid) is None
