"""Files: in whole or not at all, read back, listed, and let go."""

import asyncio
import hashlib
from datetime import timedelta

import pytest
from sqlalchemy import text

from skerry.artifacts.files.errors import (
    BadFile,
    BadUpload,
    ContentLost,
    FilesQuotaExceeded,
    FileTooLarge,
    StorageFull,
    TooManyFiles,
    UnknownFile,
    UnknownPurpose,
)
from skerry.artifacts.files.model import FileStatus
from skerry.kernel.errors import Malformed
from skerry.kernel.ids import FileId
from skerry.kernel.paging import PageRequest
from tests.artifacts.files.filing import content, pieces, rows, stored, upload

MIB = 1024 * 1024


async def test_a_file_is_what_was_uploaded(files, customer, clock):
    data = bytes(range(256)) * 9000
    file = await upload(files, customer, chunks=pieces(data[:7], data[7:MIB], data[MIB:]), filename="dir/data.bin")
    assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (file.filename, file.status, file.created_at) == ("data.bin", FileStatus.UPLOADED, clock.now())
    assert await files.get(customer, file.id) == file
    assert await content(files, customer, file.id) == data
    assert await content(files, customer, file.id, 5, MIB + 9) == data[5 : MIB + 9]
    timeline = await _timeline(files, customer, file.id)
    assert timeline == ["file.uploaded"]


async def test_what_is_stored_is_the_owner_s_alone(files, customer, folder):
    await upload(files, customer)
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_a_check_sees_all_bytes_and_its_findings_stay(files, customer):
    file = await upload(files, customer, purpose="shouting", chunks=pieces(b"AB", b"C"))
    assert (file.status, dict(file.facts)) == (FileStatus.PROCESSED, {"letters": 3})


async def test_a_purpose_that_comes_last_is_checked_all_the_same(files, customer):
    for data, good in ((b"LOUD", True), (b"quiet", False)):
        async with files.uploading(customer.project_id, filename="a", purpose=None) as uploading:
            await uploading.write(data)
            if good:
                file = await uploading.finish(files.purpose("shouting"), None)
                assert dict(file.facts) == {"letters": 4}
                continue
            with pytest.raises(BadFile):
                await uploading.finish(files.purpose("shouting"), None)
    async with files.uploading(customer.project_id, filename="a", purpose=None) as uploading:
        await uploading.write(b"A" * 2000)
        with pytest.raises(FileTooLarge):
            await uploading.finish(files.purpose("shouting"), None)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"purpose": "shouting"}, BadFile),
        ({"purpose": "shouting", "chunks": pieces(b"A" * 2000)}, FileTooLarge),
        ({"purpose": "ours"}, UnknownPurpose),
        ({"purpose": "nonsense"}, UnknownPurpose),
        ({"filename": ""}, BadUpload),
        ({"filename": "x\ny"}, BadUpload),
        ({"filename": "x" * 256}, BadUpload),
        ({"expires_after": 10}, BadUpload),
        ({"expires_after": 10**9}, BadUpload),
        ({"chunks": pieces(b"a" * (4 * MIB), b"b")}, FileTooLarge),
    ],
)
async def test_nothing_is_left_of_a_file_that_is_refused(files, customer, folder, given, refusal):
    with pytest.raises(refusal):
        await upload(files, customer, **given)
    assert await rows(files) == []
    assert stored(folder) == []


async def test_nothing_is_left_of_an_upload_that_breaks_off(files, customer, folder):
    async def breaking():
        yield b"x" * (2 * MIB)
        assert len(stored(folder)) == 1, "it is written while it comes"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await upload(files, customer, chunks=breaking())
    assert (await rows(files), stored(folder)) == ([], [])


async def test_nothing_is_left_of_an_upload_that_is_cancelled(files, customer, folder):
    begun, never = asyncio.Event(), asyncio.Event()

    async def hanging():
        yield b"x" * (2 * MIB)
        begun.set()
        await never.wait()

    task = asyncio.create_task(upload(files, customer, chunks=hanging()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await rows(files), stored(folder)) == ([], [])


async def test_a_file_on_its_way_is_not_there_yet(files, customer):
    async with files.uploading(customer.project_id, filename="a", purpose=files.purpose("notes")) as uploading:
        await uploading.write(b"x" * (2 * MIB))
        with pytest.raises(UnknownFile):
            await files.get(customer, uploading.file.id)
        assert (await files.list(customer)).data == ()
        with pytest.raises(UnknownFile):
            await files.delete(customer, uploading.file.id)
        await uploading.finish(files.purpose("notes"), None)
    assert (await files.get(customer, uploading.file.id)).bytes == 2 * MIB


async def test_what_goes_with_it_undoes_a_file_by_refusing(files, customer, folder):
    async def refuse(tx, file):
        raise BadFile("not like this")

    with pytest.raises(BadFile):
        await files.write(customer.project_id, filename="out", purpose="ours", chunks=pieces(b"1"), within=refuse)
    assert stored(folder) == []
    assert [(row.status, row.purged_at is not None) for row in await rows(files)] == [("deleted", True)]


async def test_a_file_whose_commit_came_through_stays_though_it_seemed_to_fail(files, customer):
    """The connection breaks after the commit: whoever waits gets an error, and the file is there with its bytes."""
    async with files.uploading(customer.project_id, filename="a", purpose=files.purpose("notes")) as uploading:
        await uploading.write(b"abc")
        await uploading.finish(files.purpose("notes"), None)
        uploading._done = False
    assert await content(files, customer, uploading.file.id) == b"abc"


# The quota


async def test_the_quota_of_bytes_refuses_before_the_first_byte_or_while_it_comes(files, customer, folder):
    for _ in range(2):
        await upload(files, customer, b"x" * (4 * MIB))
    with pytest.raises(FilesQuotaExceeded) as refused:
        async with files.uploading(customer.project_id, filename="a", purpose=None, declared=3 * MIB):
            raise AssertionError("it was taken in")
    assert "2097152 are left" in refused.value.detail

    seen = 0

    async def endless():
        nonlocal seen
        while True:
            seen += MIB
            yield b"x" * MIB

    with pytest.raises(FilesQuotaExceeded):
        await upload(files, customer, chunks=endless())
    assert seen == 3 * MIB
    await upload(files, customer, b"x" * (2 * MIB))
    assert len(stored(folder)) == 3


async def test_uploads_beside_each_other_cannot_pass_the_quota_together(files, customer):
    async def one():
        await upload(files, customer, chunks=pieces(*[b"x" * MIB] * 4))

    done = await asyncio.gather(*(one() for _ in range(6)), return_exceptions=True)
    assert all(result is None or isinstance(result, FilesQuotaExceeded) for result in done), done
    assert sum(row.bytes for row in await rows(files)) <= 10 * MIB
    assert [result for result in done if result is None]


async def test_a_deleted_file_makes_room(files, customer):
    made = [await upload(files, customer, b"x" * (3 * MIB)) for _ in range(3)]
    with pytest.raises(FilesQuotaExceeded):
        await upload(files, customer, b"x" * (3 * MIB))
    await files.delete(customer, made[0].id)
    await upload(files, customer, b"x" * (3 * MIB))


async def test_the_quota_of_files(files, customer, stranger):
    for _ in range(20):
        await upload(files, customer, b"")
    with pytest.raises(TooManyFiles):
        await upload(files, customer)
    await files.write(customer.project_id, filename="out", purpose="ours", chunks=pieces(b"1"))
    async with files.uploading(stranger.project_id, filename="a", purpose=files.purpose("notes")) as another:
        await another.finish(files.purpose("notes"), None)


async def test_a_disk_that_is_nearly_full_takes_no_more(files, customer, storage, folder):
    storage.keep_free = 2**62
    with pytest.raises(StorageFull):
        await upload(files, customer)
    assert (await rows(files), stored(folder)) == ([], [])


# Reading


async def test_lines_can_be_read_on_from_any_offset(files, customer):
    data = b'{"a":1}\r\n\n{"b":2}\nlast'
    file = await upload(files, customer, data)
    read = [pair async for pair in files.lines(customer.project_id, file.id)]
    assert [line for _, line in read] == [b'{"a":1}', b"", b'{"b":2}', b"last"]
    assert read[-1][0] == len(data)
    for number, (offset, _) in enumerate(read):
        rest = [pair async for pair in files.lines(customer.project_id, file.id, offset)]
        assert rest == read[number + 1 :]


async def test_lines_reach_over_blocks_and_are_bounded(files, customer):
    lines = [b"x" * size for size in (MIB - 3, MIB + 5, 1, 2 * MIB - 100)]
    file = await upload(files, customer, b"\n".join(lines))
    assert [line async for _, line in files.lines(customer.project_id, file.id)] == lines
    with pytest.raises(Malformed, match="more than 1048576 bytes"):
        async for _ in files.lines(customer.project_id, file.id, longest=MIB):
            pass


async def test_bytes_that_were_lost_are_said_to_be(files, customer, storage):
    file = await upload(files, customer)
    storage.path(file.id).unlink()
    with pytest.raises(ContentLost):
        await files.open(customer.project_id, file.id)


async def test_a_reader_may_finish_what_is_deleted_meanwhile(files, customer):
    data = b"x" * (3 * MIB)
    file = await upload(files, customer, data)
    opened = await files.open(customer.project_id, file.id)
    first = await anext(opened.chunks)
    await files.delete(customer, file.id)
    assert first + b"".join([chunk async for chunk in opened.chunks]) == data


async def test_pages_of_a_list_hold_though_files_go(files, customer, clock):
    made = []
    for number in range(5):
        made.append(await upload(files, customer, filename=f"{number}"))
        clock.advance(seconds=1)
    other = await upload(files, customer, b"OUT", purpose="shouting")
    first = await files.list(customer, purpose="notes", limit=2)
    assert ([file.filename for file in first.data], first.has_more) == (["4", "3"], True)
    await files.delete(customer, made[3].id)
    rest = await files.list(customer, purpose="notes", limit=3, after=made[3].id)
    assert ([file.filename for file in rest.data], rest.has_more) == (["2", "1", "0"], False)
    oldest = await files.list(customer, newest_first=False, after=made[2].id)
    assert [file.id for file in oldest.data] == [made[4].id, other.id]
    with pytest.raises(Malformed):
        await files.list(customer, after="file-nonsense")


# Whose it is


async def test_a_file_is_its_project_s_alone(files, customer, stranger, people):
    file = await upload(files, customer)
    for who in (stranger, people.operator):
        for attempt in (files.get(who, file.id), files.delete(who, file.id), files.open(who.project_id, file.id)):
            with pytest.raises(UnknownFile):
                await attempt
        with pytest.raises(Malformed):
            await files.list(who, after=file.id)
        assert (await files.list(who)).data == ()
    with pytest.raises(UnknownFile):
        async for _ in files.lines(stranger.project_id, file.id):
            pass
    assert (await files.get(customer, file.id)) == file


@pytest.mark.parametrize("id", ["file-x", "../../etc/passwd", "", "file-" + "0" * 26, "file-\udc00"])
async def test_an_id_that_is_none_is_unknown(files, customer, id):
    with pytest.raises((UnknownFile, UnicodeEncodeError)):
        await files.get(customer, id)
    with pytest.raises(ValueError, match="not the id"):
        files.storage.path(FileId("file-../../../etc/passwd"))


async def test_deleting_is_at_once_audited_and_in_the_timeline(files, customer, folder):
    file = await upload(files, customer)
    await files.delete(customer, file.id)
    with pytest.raises(UnknownFile):
        await files.get(customer, file.id)
    with pytest.raises(UnknownFile):
        await files.delete(customer, file.id)
    assert stored(folder) == []
    assert await _timeline(files, customer, file.id) == ["file.uploaded", "file.deleted"]
    async with files.db.transaction() as tx:
        actions = (await tx.execute(text("SELECT action FROM audit_events WHERE resource = :id ORDER BY seq"),
                                    {"id": file.id})).scalars().all()  # fmt: skip
    assert list(actions) == ["file.create", "file.delete"]


async def test_an_expired_file_is_gone_by_time_alone(files, customer, clock):
    file = await upload(files, customer, expires_after=3600)
    assert file.expires_at == clock.now() + timedelta(hours=1)
    clock.advance(seconds=3599)
    assert (await files.list(customer)).data == (file,)
    clock.advance(seconds=1)
    assert (await files.list(customer)).data == ()
    for attempt in (files.get(customer, file.id), files.delete(customer, file.id)):
        with pytest.raises(UnknownFile):
            await attempt


async def _timeline(files, who, id):
    async with files.db.reading() as tx:
        page = await files.events.list(tx, who.project_id, id, PageRequest())
    return [event.type for event in page.data]
