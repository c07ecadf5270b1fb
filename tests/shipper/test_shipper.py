"""What the shipper makes of journals that live, die, are torn and are shared; the sink is in memory."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.metering.shipper import FOR_EVER, Shipper
from skerry.runtime.journal import reader
from skerry.runtime.journal.reader import Position
from skerry.runtime.journal.records import Mark, Record
from skerry.runtime.journal.segments import frame, segment_numbers, segment_path, unfinished
from skerry.runtime.journal.writer import JournalWriter
from tests.shipper.journals import SEGMENT, Sink, journal, ship_to_the_end, write
from tests.waiting import eventually


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def shipper(tmp_path: Path, sink: Sink) -> Shipper:
    return Shipper(tmp_path, sink)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    writer = journal(tmp_path)
    yield writer
    writer.close()


async def test_a_living_journal_is_shipped_as_it_grows_and_stays(
    tmp_path: Path, shipper: Shipper, sink: Sink, writer: JournalWriter
) -> None:
    written: list[Record] = []
    for _ in range(5):
        written += write(writer, len(written), 30)
        await ship_to_the_end(shipper)
        assert sink.taken["gw_1"] == written
    assert len(segment_numbers(tmp_path / "gw_1")) == 1, "what was shipped is dropped, segment by segment"
    for _ in range(3):
        assert not await shipper.ship_all()
    assert (tmp_path / "gw_1").exists() and sink.taken["gw_1"] == written
    assert shipper.shipped == len(written)


async def test_a_dead_journal_is_finished_closed_and_removed(
    tmp_path: Path, shipper: Shipper, sink: Sink, writer: JournalWriter
) -> None:
    written = write(writer, 0, 100)
    writer.close()
    await ship_to_the_end(shipper)
    assert sink.taken["gw_1"] == [*written, Mark(FOR_EVER)]
    assert list(tmp_path.iterdir()) == []


async def test_a_gateway_that_died_at_once_leaves_nothing(
    tmp_path: Path, shipper: Shipper, sink: Sink, writer: JournalWriter
) -> None:
    writer.close()
    await ship_to_the_end(shipper)
    assert sink.taken["gw_1"] == [Mark(FOR_EVER)] and list(tmp_path.iterdir()) == []


async def test_a_torn_end_does_not_hold_up_the_end(
    tmp_path: Path, shipper: Shipper, sink: Sink, writer: JournalWriter
) -> None:
    written = write(writer, 0, 3)
    place = reader.read_batch(tmp_path / "gw_1", Position()).end
    writer.close()
    with segment_path(tmp_path / "gw_1", place.segment).open("r+b") as file:
        file.seek(place.offset)
        file.write(frame(b"x" * 100)[:50])
    await ship_to_the_end(shipper)
    assert sink.taken["gw_1"] == [*written, Mark(FOR_EVER)] and list(tmp_path.iterdir()) == []


async def test_a_torn_end_of_a_living_journal_is_waited_for(
    tmp_path: Path, shipper: Shipper, sink: Sink, writer: JournalWriter
) -> None:
    with segment_path(tmp_path / "gw_1", 1).open("r+b") as file:
        file.write(frame(b"x" * 100)[:50])
    await ship_to_the_end(shipper)
    assert (tmp_path / "gw_1").exists() and "gw_1" not in sink.taken
    written = write(writer, 0, 2)
    await ship_to_the_end(shipper)
    assert sink.taken["gw_1"] == written


async def test_a_journal_that_is_being_made_is_left_alone(tmp_path: Path, shipper: Shipper, sink: Sink) -> None:
    unfinished(tmp_path / "gw_2").mkdir()
    await ship_to_the_end(shipper)
    assert unfinished(tmp_path / "gw_2").exists() and sink.taken == {}


async def test_what_a_newer_version_wrote_is_kept_and_said_once(
    tmp_path: Path, shipper: Shipper, sink: Sink, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(shipper._log, "error", lambda event, **_: said.append(event))
    written = write(writer, 0, 2)
    place = reader.read_batch(tmp_path / "gw_1", Position()).end
    writer.close()
    with segment_path(tmp_path / "gw_1", 1).open("r+b") as file:
        file.seek(place.offset)
        file.write(frame(b"\x92\xa1z\x01"))
    for _ in range(3):
        await ship_to_the_end(shipper)
    assert sink.taken["gw_1"] == written and (tmp_path / "gw_1").exists()
    assert said == ["journal_unreadable"]


async def test_killed_between_ship_and_drop_it_goes_on_where_the_database_is(
    tmp_path: Path, sink: Sink, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write(writer, 0, 200)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(20):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(reader, "drop_segments_before", die)
            await Shipper(tmp_path, sink).ship_all()
        if len(sink.answers("gw_1")) == len(written):
            break
    writer.close()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(reader, "remove_journal", die)
        await ship_to_the_end(Shipper(tmp_path, sink))
    await ship_to_the_end(Shipper(tmp_path, sink))
    assert sink.answers("gw_1") == written
    assert set(sink.marks("gw_1")) == {Mark(FOR_EVER)} and list(tmp_path.iterdir()) == []


async def test_one_that_lags_behind_the_database_does_not_remove_what_it_did_not_ship(
    tmp_path: Path, sink: Sink, writer: JournalWriter
) -> None:
    """It shipped the beginning; another shipped on, and the last watermark must be written all the same."""
    slow, quick = Shipper(tmp_path, sink), Shipper(tmp_path, sink)
    written = write(writer, 0, 20)
    await ship_to_the_end(slow)
    written += write(writer, 20, 100)
    await ship_to_the_end(quick)
    writer.close()
    for number in segment_numbers(tmp_path / "gw_1"):
        segment_path(tmp_path / "gw_1", number).unlink()
    await ship_to_the_end(slow)
    assert sink.taken["gw_1"] == [*written, Mark(FOR_EVER)]


async def test_shippers_beside_each_other_ship_each_record_once(tmp_path: Path, sink: Sink) -> None:
    writers = [journal(tmp_path, f"gw_{n}") for n in range(3)]
    stopping = asyncio.Event()
    written: dict[str, list[Record]] = {writer.folder.name: [] for writer in writers}
    running = [asyncio.create_task(Shipper(tmp_path, sink).run(stopping)) for _ in range(3)]
    for turn in range(40):
        for writer in writers:
            written[writer.folder.name] += write(writer, turn * 10, 10)
        await asyncio.sleep(0.002)
    for writer in writers:
        writer.close()
    await eventually(lambda: not list(tmp_path.iterdir()))
    stopping.set()
    await asyncio.gather(*running)
    assert {name: sink.answers(name) for name in written} == written
    assert all(sink.marks(name) == [Mark(FOR_EVER)] for name in written)


async def test_the_database_goes_and_comes_back(tmp_path: Path, sink: Sink, writer: JournalWriter) -> None:
    now = 100.0
    shipper, stopping = Shipper(tmp_path, sink, lambda: now), asyncio.Event()
    sink.away = True
    written = write(writer, 0, 50)
    running = asyncio.create_task(shipper.run(stopping))
    now += 7
    await eventually(lambda: shipper.behind_seconds == 7)
    assert not running.done() and sink.taken == {}
    sink.away = False
    await eventually(lambda: sink.answers("gw_1") == written)
    await eventually(lambda: shipper.behind_seconds == 0)
    stopping.set()
    await running


async def test_told_to_stop_it_ships_what_is_there(tmp_path: Path, sink: Sink, writer: JournalWriter) -> None:
    written, stopping = write(writer, 0, 300), asyncio.Event()
    stopping.set()
    await Shipper(tmp_path, sink).run(stopping)
    assert sink.answers("gw_1") == written
    sink.away = True
    await asyncio.wait_for(Shipper(tmp_path, Sink()).run(stopping), 30)


async def test_a_gateway_writes_on_while_it_is_shipped(tmp_path: Path, sink: Sink) -> None:
    """From its first moment to its end; a living folder is never removed."""
    shipper, stopping = Shipper(tmp_path, sink), asyncio.Event()
    running = asyncio.create_task(shipper.run(stopping))
    written: dict[str, list[Record]] = {}
    for name in (f"gw_{n}" for n in range(15)):
        writer = await asyncio.to_thread(journal, tmp_path, name, SEGMENT)
        written[name] = []
        for turn in range(10):
            assert (tmp_path / name).exists()
            written[name] += write(writer, turn * 4, 4)
            await asyncio.sleep(0.001)
        writer.close()
    await eventually(lambda: not list(tmp_path.iterdir()))
    stopping.set()
    await running
    assert {name: sink.answers(name) for name in written} == written


@contextmanager
def _root(parent: Path) -> Iterator[Path]:
    root = parent / "root"
    root.mkdir()
    yield root
    shutil.rmtree(root)


steps = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 30)),
    st.tuples(st.just("pass"), st.integers(1, 3)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("away"), st.booleans()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=25))
def test_whatever_happens_in_between_each_record_arrives_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    async def live(root: Path) -> None:
        sink = Sink()
        shipper, writer = Shipper(root, sink), journal(root, segment_bytes=1024)
        written: list[Record] = []
        for step, value in steps:
            if step == "write":
                written += write(writer, len(written), value)
            elif step == "restart":
                shipper = Shipper(root, sink)
            elif step == "away":
                sink.away = bool(value)
            else:
                for _ in range(value):
                    try:
                        await shipper.ship_all()
                    except Exception:
                        assert sink.away
                assert sink.taken.get("gw_1", []) == written[: len(sink.taken.get("gw_1", []))]
        writer.close()
        sink.away = False
        await ship_to_the_end(shipper)
        assert sink.taken["gw_1"] == [*written, Mark(FOR_EVER)]

    with _root(tmp_path_factory.mktemp("ship")) as root:
        asyncio.run(live(root))
