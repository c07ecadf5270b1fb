"""What was written is what is read, whatever the sizes; and what a torn end costs."""

import asyncio
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.runtime.journal.reader import Position, Tail, UnreadableRecord, read_batch
from skerry.runtime.journal.records import Mark, Record, encoder
from skerry.runtime.journal.segments import HEADER, MAX_PAYLOAD, frame, segment_numbers, segment_path
from skerry.runtime.journal.writer import JournalWriter
from tests.journal.records import answer, read_all, records

SEGMENT = 2048


def _write(folder: Path, written: list[Record], segment_bytes: int = SEGMENT) -> None:
    writer = JournalWriter(folder, segment_bytes=segment_bytes)
    for record in written:
        writer.append(record)
    writer.close()


def _used(folder: Path, number: int) -> int:
    """Bytes of a segment that hold frames."""
    return read_all(folder, Position(number))[1].end.offset


@settings(max_examples=60, deadline=None)
@given(
    st.lists(records, max_size=40), st.integers(1, 50), st.integers(1200, 6000),
)  # fmt: skip
def test_what_is_written_is_read(written: list[Record], limit: int, segment_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "j"
        _write(folder, written, segment_bytes)
        found, last = read_all(folder, limit=limit)
        assert found == written
        assert last.tail is Tail.END


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12))
def test_bursts_beside_a_running_loop_lose_nothing(bursts: list[int]) -> None:
    """However many segments fill before the loop hears of the one that is allocated ahead."""

    async def write(folder: Path) -> list[Record]:
        writer = JournalWriter(folder, segment_bytes=512)
        written: list[Record] = []
        writer.start(asyncio.get_running_loop())
        for burst in bursts:
            for _ in range(burst):
                written.append(answer(len(written)))
                writer.append(written[-1])
            await asyncio.sleep(0)
        await asyncio.sleep(0.03)
        for _ in range(8):
            written.append(answer(len(written)))
            writer.append(written[-1])
        writer.close()
        return written

    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "j"
        assert asyncio.run(write(folder)) == read_all(folder)[0]


def test_reading_goes_on_where_it_was_left(tmp_path: Path) -> None:
    writer, place = JournalWriter(tmp_path / "j", segment_bytes=SEGMENT), Position()
    seen: list[Record] = []
    for number in range(60):
        writer.append(answer(number))
        if number % 7 == 0:
            found, last = read_all(tmp_path / "j", place, limit=3)
            seen, place = seen + found, last.end
    seen += read_all(tmp_path / "j", place)[0]
    writer.close()
    assert seen == [answer(number) for number in range(60)]


@pytest.mark.parametrize("what", ["cut", "flip", "zero"])
@settings(max_examples=40, deadline=None)
@given(
    before=st.lists(records, max_size=4), last=records, place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7)
)
def test_a_torn_end_costs_only_itself(what: str, before: list[Record], last: Record, place: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "j"
        _write(folder, before, 64 * 1024)
        start = _used(folder, 1)
        torn = frame(encoder.encode(last))
        at = int(place * len(torn))
        if what == "cut":
            data = torn[:at]
        elif what == "flip":
            data = torn[:at] + bytes([torn[at] ^ 1 << bit]) + torn[at + 1 :]
        else:
            data = torn[:at] + bytes(len(torn) - at)
        with segment_path(folder, 1).open("r+b") as file:
            file.seek(start)
            file.write(data)
            if what == "cut":
                file.truncate()
        found, end = read_all(folder)
        if what == "zero" and data == torn:
            assert found == [*before, last]
            return
        assert found == before
        assert end.end == Position(1, start)
        has_length = len(data) >= HEADER.size and any(data[:4])
        assert end.tail is (Tail.TORN if has_length else Tail.END)


def test_after_a_torn_frame_the_next_segment_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    written: list[Record] = [answer(number) for number in range(60)]
    _write(folder, written)
    assert len(segment_numbers(folder)) > 2
    first, _ = read_all(folder, Position(), limit=10_000)
    in_first = len(read_batch(folder, Position()).records)
    with segment_path(folder, 1).open("r+b") as file:
        size = len(frame(encoder.encode(written[0])))
        file.seek(size * (in_first - 1) + HEADER.size + 3)
        file.write(b"\xff\xff")
    found, end = read_all(folder)
    assert first == written
    assert found == [*written[: in_first - 1], *written[in_first:]]
    assert end.tail is Tail.END


def test_a_newer_version_s_record_stops_reading_and_what_is_before_it_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    _write(folder, [answer(1)])
    with segment_path(folder, 1).open("r+b") as file:
        file.seek(_used(folder, 1))
        file.write(frame(b"\x92\xa1z\x01") + frame(encoder.encode(answer(2))))
    batch = read_batch(folder, Position())
    assert batch.records == (answer(1),)
    with pytest.raises(UnreadableRecord):
        read_batch(folder, batch.end)


def test_a_record_that_nobody_could_read_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j", segment_bytes=256 * 1024)
    writer.append(Mark(1))
    with pytest.raises(OSError, match="does not fit"):
        writer.append(answer(tags={"x": "y" * MAX_PAYLOAD}))
    writer.append(Mark(2))
    writer.close()
    assert read_all(tmp_path / "j")[0] == [Mark(1), Mark(2)]


def test_a_journal_that_is_being_written_is_never_read_wrongly(tmp_path: Path) -> None:
    """Reader and writer side by side: each record once, in order, whole."""
    folder, count = tmp_path / "j", 4000
    writer = JournalWriter(folder, segment_bytes=16 * 1024)

    def write() -> None:
        for number in range(count):
            writer.append(answer(number, model="m" * (number % 300)))

    thread = threading.Thread(target=write)
    thread.start()
    seen: list[Record] = []
    place = Position()
    while True:
        last = not thread.is_alive()
        found, batch = read_all(folder, place, limit=97)
        seen, place = seen + found, batch.end
        if last:
            break
    thread.join()
    writer.close()
    assert seen == [answer(number, model="m" * (number % 300)) for number in range(count)]
