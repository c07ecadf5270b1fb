"""Locks, the death of the writer, and full disks."""

import asyncio
import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from skerry.runtime.journal import writer as writer_module
from skerry.runtime.journal.reader import is_alive, shipping
from skerry.runtime.journal.segments import LOCK_FILE, unfinished
from skerry.runtime.journal.writer import JournalLocked, JournalWriter
from tests.journal.records import answer, read_all
from tests.waiting import eventually

SEGMENT = 64 * 1024


def _child(folder: Path, segment_bytes: int = SEGMENT) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.journal.appender", str(folder), str(segment_bytes)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )


def test_a_journal_has_one_writer_ever(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    assert not is_alive(folder)
    writer = JournalWriter(folder, segment_bytes=SEGMENT)
    writer.append(answer(1))
    assert is_alive(folder)
    with pytest.raises(JournalLocked):
        JournalWriter(folder, segment_bytes=SEGMENT)
    writer.close()
    writer.close()
    assert not is_alive(folder)
    with pytest.raises(JournalLocked):
        JournalWriter(folder, segment_bytes=SEGMENT)  # it would begin again at segment 1
    assert read_all(folder)[0] == [answer(1)]
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_a_journal_is_locked_from_the_moment_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a shipper that looks just then takes it for a dead gateway's, and removes it under the living one."""
    folder, seen = tmp_path / "j", []
    take = fcntl.flock

    def look(fd: int, how: int) -> None:
        seen.append([path.name for path in tmp_path.iterdir()])
        take(fd, how)

    monkeypatch.setattr(fcntl, "flock", look)
    JournalWriter(folder, segment_bytes=SEGMENT).close()
    assert seen[0] == [unfinished(folder).name]
    assert (folder / LOCK_FILE).exists()


def test_only_one_may_ship(tmp_path: Path) -> None:
    with shipping(tmp_path) as first:
        with shipping(tmp_path) as second:
            assert (first, second) == (True, False)
        with shipping(tmp_path) as third:
            assert not third
    with shipping(tmp_path) as again, shipping(tmp_path / "gone") as gone:
        assert (again, gone) == (True, False)


@pytest.mark.parametrize("seed", range(6))
def test_what_was_appended_outlives_kill_9(tmp_path: Path, seed: int) -> None:
    chance, folder = random.Random(seed), tmp_path / "j"
    child = _child(folder, chance.choice([2048, 8192, SEGMENT, 4 * 1024 * 1024]))
    assert child.stdout is not None
    try:
        for _ in range(chance.randint(1, 3000)):
            child.stdout.readline()
        assert is_alive(folder)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    rest = child.stdout.read()
    child.stdout.close()
    printed = max([int(line) for line in rest.splitlines()[:-1]], default=0)
    assert not is_alive(folder)
    found, _ = read_all(folder)
    assert len(found) > printed
    assert found == [answer(number, model="m" * (number % 200)) for number in range(len(found))]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(mounted)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.decode().strip()}")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


@pytest.fixture
async def quick_retries(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.02)
    yield


async def _fill_until_no_room(writer: JournalWriter) -> int:
    count = 0
    while writer.has_room:
        writer.append(answer(count))
        count += 1
        assert count < 20_000, "the disk is full, and it goes on"
        await asyncio.sleep(0)
    return count


async def _append_promised(writer: JournalWriter, count: int, size: int) -> int:
    """What answers under way may still write."""
    end = count + size
    while count < end:
        writer.append(answer(count))
        count += 1
    return count


@pytest.mark.usefixtures("quick_retries")
async def test_a_full_disk_stops_admission_while_answers_under_way_still_have_room(small_disk: Path) -> None:
    writer = JournalWriter(small_disk / "j", segment_bytes=300 * 1024, reserve_bytes=64 * 1024)
    writer.start(asyncio.get_running_loop())
    ballast = small_disk / "ballast"
    await eventually(lambda: writer._spare is not None)
    ballast.write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    count = await _fill_until_no_room(writer)
    assert writer.trouble is not None
    count = await _append_promised(writer, count, 64 * 1024 // 200)
    with pytest.raises(OSError, match="No space") as full:
        await _append_promised(writer, count, 100_000)
    assert full.value.errno == errno.ENOSPC
    count = writer.written
    ballast.unlink()
    await eventually(lambda: writer.has_room)
    assert writer.trouble is None
    count = await _append_promised(writer, count, 500)
    writer.close()
    assert read_all(small_disk / "j")[0] == [answer(number) for number in range(count)]


@pytest.mark.usefixtures("quick_retries")
async def test_room_comes_back_when_allocation_works_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without a file system of our own."""
    writer = JournalWriter(tmp_path / "j", segment_bytes=64 * 1024, reserve_bytes=8 * 1024)

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        writer.start(asyncio.get_running_loop())
        count = await _fill_until_no_room(writer)
        assert "no room" in str(writer.trouble)
        count = await _append_promised(writer, count, 8 * 1024 // 200)
        with pytest.raises(OSError, match="No space"):
            await _append_promised(writer, count, 1000)
        count = writer.written
        assert [path.name for path in (tmp_path / "j").glob("*.new")] == [], "nothing is left behind"
    await eventually(lambda: writer.has_room)
    count = await _append_promised(writer, count, 1000)
    writer.close()
    assert read_all(tmp_path / "j")[0] == [answer(number) for number in range(count)]


async def test_a_disk_that_fails_to_sync_stops_admission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path / "j", segment_bytes=64 * 1024)
    writer.start(asyncio.get_running_loop())

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        writer.append(answer(1))
        await eventually(lambda: not writer.has_room)
    assert "cannot be written" in str(writer.trouble)
    writer.close()


async def test_what_is_appended_is_synced_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    writer = JournalWriter(tmp_path / "j", segment_bytes=64 * 1024)
    writer.start(asyncio.get_running_loop())
    for number in range(50):
        writer.append(answer(number))
    await eventually(lambda: synced)
    assert len(synced) == 1, "in groups"
    writer.close()
