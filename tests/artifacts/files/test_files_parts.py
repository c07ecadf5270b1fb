"""The parts of `/v1/files` that need no database: the form, the range, the storage."""

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.artifacts.files.errors import BadUpload, StorageFailed
from skerry.artifacts.files.multipart import (
    LONGEST_FIELD,
    MOST_PARTS,
    Field,
    FileBegins,
    FileBytes,
    FileEnds,
    FormSplitter,
)
from skerry.artifacts.files.ranges import Unsatisfiable, parse_range
from skerry.artifacts.files.storage import BLOCK, LocalStorage, ObjectMissing
from skerry.kernel.errors import SkerryError
from skerry.kernel.ids import FileId, new_id

BOUNDARY = "xYzZy"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
TRICKY = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"-", b"xYzZy", b"\r\n--xYzZ", b"\r\n--", b"\x00\xff", b"a" * 50]),
    max_size=40,
).map(b"".join)


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    return f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def split(body: bytes, cuts=()) -> list:
    splitter, found, at = FormSplitter(TYPE), [], 0
    for cut in [*sorted(cuts), len(body)]:
        found += splitter.feed(body[at:cut])
        at = cut
    splitter.end()
    return found


def data_of(found) -> bytes:
    return b"".join(piece.data for piece in found if isinstance(piece, FileBytes))


@settings(max_examples=300, deadline=None)
@given(TRICKY.filter(lambda data: b"\r\n--xYzZy" not in b"\r\n" + data), st.data())
def test_the_bytes_of_a_file_are_its_own_wherever_the_body_is_cut(content, data):
    body = form(part("purpose", b"batch"), part("file", content, "a.jsonl"), part("late", b"x"))
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=30))
    found = split(body, cuts)
    assert data_of(found) == content
    assert [piece for piece in found if not isinstance(piece, FileBytes)] == [
        Field("purpose", "batch"),
        FileBegins("a.jsonl"),
        FileEnds(),
        Field("late", "x"),
    ]


def test_a_body_cut_into_single_bytes_is_the_same():
    body = form(part("file", b"\r\n--xYzZ\r\n--", "a"))
    assert data_of(split(body, range(len(body)))) == b"\r\n--xYzZ\r\n--"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | TRICKY, st.data())
def test_garbage_is_refused_and_nothing_else_happens(garbage, data):
    body = form(part("file", b"content", "a"))
    at = data.draw(st.integers(0, len(body)))
    try:
        split(body[:at] + garbage + body[at:])
    except SkerryError as refused:
        assert refused.status == 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (form(part("purpose", b"batch")), "missing"),
        (form(part("file", b"x", "a"))[:-6], "truncated"),
        (b"", "truncated"),
        (b"{}", "bad_form"),
        (form(part("file", b"x")), "not_a_file"),
        (form(part("file", b"x", "a"), part("file", b"y", "b")), "repeated"),
        (form(part("a", b"x"), part("a", b"x")), "repeated"),
        (form(part("a", b"x" * (LONGEST_FIELD + 1))), "too_long"),
        (form(part("a", b"\xff")), "not_utf8"),
        (form(part("a", b"\x00")), "nul_byte"),
        (form(*(part(f"a{n}", b"x") for n in range(MOST_PARTS + 1))), "bad_form"),
        (form(b"--xYzZy\r\nx: y\r\n\r\nz\r\n"), "bad_form"),
        (form(b"--xYzZy\r\nx: " + b"y" * 5000 + b"\r\n\r\nz\r\n"), "bad_form"),
        (form(b"--xYzZy\r\n" + b"x: y\r\n" * 9 + b"\r\nz\r\n"), "bad_form"),
    ],
)
def test_a_form_that_cannot_be_read_is_refused_by_name(body, code):
    with pytest.raises(BadUpload) as refused:
        split(body)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "kind", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 71]
)
def test_another_content_type_is_refused(kind):
    with pytest.raises(BadUpload) as refused:
        FormSplitter(kind)
    assert refused.value.code == "not_multipart"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=5-100", (5, 10)),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=²-3", None),
    ],
)
def test_a_range(header, expected):
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0)])
def test_a_range_outside_is_unsatisfiable(header, size):
    with pytest.raises(Unsatisfiable):
        parse_range(header, size)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 250), st.integers(0, 250))
def test_a_range_never_leaves_the_file(size, first, last):
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        try:
            found = parse_range(header, size)
        except Unsatisfiable:
            continue
        assert found is None or 0 <= found[0] < found[1] <= size


async def test_an_object_is_there_whole_or_not_at_all(tmp_path):
    storage = LocalStorage(tmp_path / "files")
    id = FileId(new_id("file-"))
    draft = await storage.begin(id)
    await draft.write(b"x" * (BLOCK + 1))
    with pytest.raises(ObjectMissing):
        await storage.open(id)
    assert [len(block) async for block in draft.read()] == [BLOCK, 1]
    await draft.commit()
    assert await storage.drafts() == {}
    found = await storage.open(id)
    assert [len(block) async for block in found.read(1, BLOCK + 1)] == [BLOCK]
    await storage.delete(id)
    await storage.delete(id)
    with pytest.raises(ObjectMissing):
        await storage.open(id)


async def test_a_draft_that_was_swept_away_cannot_be_committed(tmp_path):
    storage = LocalStorage(tmp_path / "files")
    id = FileId(new_id("file-"))
    draft = await storage.begin(id)
    assert list(await storage.drafts()) == [id]
    await storage.delete(id)
    with pytest.raises(ObjectMissing):
        await draft.commit()
    await draft.discard()
    await draft.discard()


async def test_two_drafts_of_one_file_are_a_defect(tmp_path):
    storage = LocalStorage(tmp_path / "files")
    id = FileId(new_id("file-"))
    await storage.begin(id)
    with pytest.raises(FileExistsError):
        await storage.begin(id)


async def test_a_folder_that_cannot_be_used_is_ours_to_mend(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed):
        await LocalStorage(tmp_path / "file" / "files").begin(FileId(new_id("file-")))
    # A controller that looks at another folder than the server does must not believe that it has deleted.
    with pytest.raises(OSError, match="never held a file"):
        await LocalStorage(tmp_path / "elsewhere").delete(FileId(new_id("file-")))


async def test_files_are_nobody_else_s_to_read(tmp_path):
    storage = LocalStorage(tmp_path / "files")
    drafts = await asyncio.gather(*(storage.begin(FileId(new_id("file-"))) for _ in range(3)))
    for draft in drafts:
        await draft.commit()
    modes = {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*") if path.is_dir() and path != tmp_path}
    assert modes == {0}
    assert all(re.fullmatch(r"file-\w{26}", path.name) for path in tmp_path.rglob("*") if path.is_file())
