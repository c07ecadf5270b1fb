"""What time does to files: byte-seconds counted once, expiry, and the remains of dead processes."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.artifacts.files import rules
from skerry.artifacts.files.errors import UploadLost
from skerry.artifacts.files.model import File, FileStatus
from skerry.artifacts.files.sweeper import LOST_AFTER, FileSweeper
from skerry.kernel.clock import usage_hour
from skerry.kernel.ids import FileId, ProjectId
from tests.artifacts.files.filing import facts, pieces, rows, stored, upload

START = datetime(2026, 3, 1, 10, 59, 58, 600_000, tzinfo=UTC)
FILE = File(FileId("file-1"), ProjectId("p"), "a", "notes", 1000, "", FileStatus.UPLOADED, START)


@settings(deadline=None)
@given(
    seconds=st.floats(0, 90_000).map(lambda s: timedelta(seconds=round(s, 3))),
    looks=st.lists(st.floats(0, 90_000).map(lambda s: timedelta(seconds=s)), max_size=6).map(sorted),
)
def test_the_sum_is_bytes_times_whole_seconds_however_often_one_looks(seconds, looks):
    end, all_facts, through = START + seconds, [], START
    for look in looks:
        file = replaced(metered_through=through)
        until = rules.metered_until(file, min(START + look, end))
        if until > through:
            all_facts += rules.storage_facts(file, until)
            through = until
    last = replaced(metered_through=through)
    all_facts += rules.storage_facts(last, rules.end_of(last, end))
    assert sum(fact.quantity for fact in all_facts) == 1000 * (seconds // timedelta(seconds=1))
    assert len({fact.id for fact in all_facts}) == len(all_facts)
    assert len({usage_hour(fact.t1) for fact in all_facts}) == len(all_facts)


@settings(deadline=None)
@given(st.integers(0, 20_000), st.integers(0, 20_000))
def test_the_end_of_what_expires_does_not_depend_on_who_looks_when(lasting, looked):
    expires = START + timedelta(seconds=lasting)
    file = replaced(expires_at=expires)
    now = START + timedelta(seconds=looked)
    assert rules.end_of(file, now) == min(expires, now)
    assert rules.metered_until(file, now) <= expires
    assert rules.is_gone(file, now) == (looked >= lasting)


def replaced(**values) -> File:
    return replace(FILE, **values)


async def test_storage_is_metered_by_the_hour_and_closed_by_deletion(files, sweeper, customer, clock):
    clock.advance(minutes=30)
    file = await upload(files, customer, b"x" * 100)
    await sweeper.sweep_once()
    assert await facts(files) == []
    clock.advance(hours=2)
    await sweeper.sweep_once()
    await sweeper.sweep_once()
    assert [fact.quantity for fact in await facts(files)] == [100 * 1800, 100 * 3600]
    clock.advance(minutes=1)
    await files.delete(customer, file.id)
    clock.advance(hours=5)
    await sweeper.sweep_once()
    found = await facts(files)
    assert [fact.quantity for fact in found] == [100 * 1800, 100 * 3600, 100 * 1860]
    assert all(before.t1 == after.t0 for before, after in pairwise(found))


async def test_two_sweepers_count_once(files, customer, clock):
    for _ in range(30):
        async with files.uploading(customer.project_id, filename="a", purpose=None, limited=False) as one:
            await one.write(b"x" * 10)
            await one.finish(files.purpose("notes"), 3 * 3600)
    clock.advance(hours=2)
    await asyncio.gather(*(FileSweeper(files).sweep_once() for _ in range(4)))
    clock.advance(hours=2)
    await asyncio.gather(*(FileSweeper(files).sweep_once() for _ in range(4)))
    assert sum(fact.quantity for fact in await facts(files)) == 30 * 10 * 3 * 3600
    assert {row.status for row in await rows(files)} == {"deleted"}


async def test_what_is_deleted_while_it_is_swept_is_counted_once(files, customer, clock):
    made = [await upload(files, customer, b"x" * 10) for _ in range(10)]
    clock.advance(hours=3)
    await asyncio.gather(FileSweeper(files).sweep_once(), *(files.delete(customer, file.id) for file in made))
    await FileSweeper(files).sweep_once()
    assert sum(fact.quantity for fact in await facts(files)) == 10 * 10 * 3 * 3600


async def test_a_pass_that_fails_is_done_again_and_counts_once(files, sweeper, customer, clock, monkeypatch):
    await upload(files, customer, b"x" * 10)
    clock.advance(hours=2)
    real = files.store.metered

    async def dying(tx, ends):
        await real(tx, ends)
        raise RuntimeError("killed before the commit")

    monkeypatch.setattr(files.store, "metered", dying)
    with pytest.raises(RuntimeError):
        await sweeper.sweep_once()
    assert await facts(files) == []
    monkeypatch.undo()
    await sweeper.sweep_once()
    assert sum(fact.quantity for fact in await facts(files)) == 10 * 7200


async def test_an_expired_file_is_metered_up_to_its_end_however_late(files, sweeper, customer, clock, folder):
    await upload(files, customer, b"x" * 10, expires_after=5400)
    await upload(files, customer, b"x" * 10, expires_after=5400 * 2)
    clock.advance(hours=30)
    await sweeper.sweep_once()
    assert sum(fact.quantity for fact in await facts(files)) == 10 * 5400 * 3
    assert stored(folder) == []
    assert all(row.status == "deleted" and row.purged_at for row in await rows(files))


async def test_an_upload_whose_process_died_is_cleared_away(files, sweeper, customer, clock, folder):
    abandoned = files.uploading(customer.project_id, filename="a", purpose=files.purpose("notes"))
    uploading = await abandoned.__aenter__()
    await uploading.write(b"x" * (2 * 1024 * 1024))
    uploading._pulse.cancel()
    clock.at += LOST_AFTER
    await sweeper.sweep_once()
    assert len(stored(folder)) == 1, "it may yet live"
    clock.advance(seconds=1)
    await sweeper.sweep_once()
    assert stored(folder) == []
    assert [(row.status, bool(row.purged_at)) for row in await rows(files)] == [("deleted", True)]
    assert await facts(files) == []
    # Should it live after all, it is told.
    with pytest.raises(UploadLost):
        await uploading.finish(files.purpose("notes"), None)
    await abandoned.__aexit__(UploadLost, UploadLost("it was"), None)
    assert stored(folder) == []


async def test_an_upload_gives_signs_of_life(files, sweeper, customer, clock, monkeypatch):
    monkeypatch.setattr("skerry.artifacts.files.upload.TOUCH_SECONDS", 0.0)
    touched = asyncio.Event()
    real = files.store.touch

    async def touch(*args):
        done = await real(*args)
        touched.set()
        return done

    monkeypatch.setattr(files.store, "touch", touch)
    async with files.uploading(customer.project_id, filename="a", purpose=files.purpose("notes")) as uploading:
        for _ in range(3):
            clock.at += LOST_AFTER
            touched.clear()
            await asyncio.wait_for(touched.wait(), 30)
            touched.clear()
            await asyncio.wait_for(touched.wait(), 30)
            await sweeper.sweep_once()
        await uploading.write(b"alive")
        file = await uploading.finish(files.purpose("notes"), None)
    assert (await files.get(customer, file.id)).bytes == 5


async def test_what_the_disk_could_not_delete_is_deleted_later(files, sweeper, customer, folder, monkeypatch):
    file = await upload(files, customer)

    async def refusing(_):
        raise OSError("the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(files.storage, "delete", refusing)
        await files.delete(customer, file.id)
    assert stored(folder) == [file.id]
    await sweeper.sweep_once()
    assert stored(folder) == []


async def test_drafts_without_a_row_go_and_files_without_one_stay(files, sweeper, customer, clock, folder):
    """A whole file that no row names may be a customer's, of a database that was set back: it is not ours to delete."""
    clock.at = datetime.now(UTC) + 2 * LOST_AFTER
    file = await upload(files, customer, chunks=pieces(b"a"))
    stray = FileId("file-" + "0" * 26)
    draft = await files.storage.begin(stray)
    await draft.write(b"lost")
    whole = await files.storage.begin(FileId("file-" + "1" * 26))
    await whole.commit()
    await sweeper.sweep_once()
    assert stored(folder) == sorted([file.id, "file-" + "1" * 26])
