"""What the log keeps, finds and forgets."""

import os
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from skerry.db.database import Database
from skerry.db.partitions import list_partitions
from skerry.inference.requests import rules
from skerry.inference.requests.content import KEPT_BYTES, ContentSealer
from skerry.inference.requests.model import ContentState
from skerry.inference.requests.service import RequestLog, SearchTooWide
from skerry.kernel.clock import FakeClock
from skerry.kernel.errors import Invalid, Malformed, NotFound
from skerry.kernel.paging import PageRequest, decode_cursor
from skerry.runtime.journal.records import encoder
from skerry.runtime.journal.segments import MAX_PAYLOAD
from skerry.runtime.secrets import Keyring
from tests.requests.conftest import DEMO, OTHER, Intake, Make, reader, us

ALL = PageRequest()


async def found(log: RequestLog, project=DEMO, page=ALL, **asked) -> list[str]:
    listed = await log.search(project, rules.search(**asked), page)
    return [one.request.id.hex for one in listed.data]


async def test_an_answer_is_found_by_the_id_the_client_saw(log: RequestLog, ship: Intake, answer: Make, clock) -> None:
    record = answer(batch="batch_1")
    await ship(record)
    got = await log.get(reader(), record.id.hex())
    request = got.listed.request
    assert (request.model, request.replica, request.batch, request.kind) == ("smol", "rep_1", "batch_1", "chat")
    assert (request.prompt, request.cached, request.completion, request.egress_bytes) == (10, 3, 5, 321)
    assert (request.queue_us, request.first_us, request.total_us) == (20_000, 90_000, 1_000_000)
    assert (request.status, request.stream, request.counted, request.cost_nano) == (200, True, "engine", 1_500)
    assert request.ended_at == clock.now()
    assert (got.listed.key_name, got.listed.currency) == ("nightly", "EUR")


async def test_the_log_is_a_project_s_own(log: RequestLog, ship: Intake, answer: Make) -> None:
    mine, theirs = answer(), answer(project=OTHER)
    await ship(mine, theirs)
    assert await found(log) == [mine.id.hex()]
    assert await found(log, OTHER) == [theirs.id.hex()]
    with pytest.raises(NotFound):
        await log.get(reader(), theirs.id.hex())


@pytest.mark.parametrize("id", ["", "x", "0" * 31, "0" * 33, "z" * 32, "é" * 32])
async def test_what_is_no_id_is_not_found(log: RequestLog, id: str) -> None:
    with pytest.raises(NotFound):
        await log.get(reader(), id)


async def test_a_batch_sent_twice_is_logged_once(log: RequestLog, ship: Intake, answer: Make) -> None:
    record = answer()
    await ship(record)
    await ship(record, answer(), journal="a copy of it")
    assert len(await found(log)) == 2 and len(set(await found(log))) == 2


async def test_filters_narrow_the_list(log: RequestLog, ship: Intake, answer: Make, clock: FakeClock) -> None:
    slow = answer(t0=us(clock.now()) - 9_000_000)
    lost = answer(status=499, model="big")
    broken = answer(status=502, key="key_2")
    row = answer(batch="batch_1")
    await ship(slow, lost, broken, row)
    hexes = {name: record.id.hex() for name, record in
             (("slow", slow), ("lost", lost), ("broken", broken), ("row", row))}  # fmt: skip
    assert await found(log) == [hexes["row"], hexes["broken"], hexes["lost"], hexes["slow"]]
    assert await found(log, model="big") == [hexes["lost"]]
    assert await found(log, status="499") == [hexes["lost"]]
    assert await found(log, status="5xx") == [hexes["broken"]]
    assert await found(log, key="key_2") == await found(log, key="web 100%") == [hexes["broken"]]
    assert await found(log, key="no such key") == []
    assert await found(log, batch="batch_1") == [hexes["row"]]
    assert await found(log, min_ms=5000) == [hexes["slow"]]
    assert await found(log, min_ms=5000, model="big") == []


async def test_a_word_finds_ids_models_and_keys(log: RequestLog, ship: Intake, answer: Make) -> None:
    one, two = answer(model="Llama_3"), answer(key="key_2")
    await ship(one, two)
    assert await found(log, q=one.id.hex()) == [one.id.hex()]
    assert await found(log, q=str(UUID(bytes=two.id))[:30]) in ([two.id.hex()], [two.id.hex(), one.id.hex()])
    assert await found(log, q="llama") == [one.id.hex()]
    assert await found(log, q="a_3") == [one.id.hex()]
    assert await found(log, q="100%") == [two.id.hex()]
    assert await found(log, q="%") == [two.id.hex()]
    assert await found(log, q="nothing of the kind") == []


async def test_a_window_bounds_the_end_of_an_answer(
    log: RequestLog, ship: Intake, answer: Make, clock: FakeClock
) -> None:
    early = answer()
    cut = clock.advance(hours=1)
    late = answer()
    await ship(early, late)
    assert await found(log, end=cut.isoformat()) == [early.id.hex()]
    assert await found(log, start=cut.isoformat()) == [late.id.hex()]


async def test_pages_meet_without_gap_or_repetition(log: RequestLog, ship: Intake, answer: Make) -> None:
    records = [answer() for _ in range(7)]
    await ship(*records)
    seen, after = [], None
    while True:
        page = await log.search(DEMO, rules.search(), PageRequest(3, after))
        seen += [one.request.id.bytes for one in page.data]
        if page.next_cursor is None:
            break
        after = decode_cursor(page.next_cursor)
    assert seen == [record.id for record in reversed(records)]


@pytest.mark.parametrize("cursor", [(), ("x",), ("",)])
async def test_a_cursor_of_another_list_is_refused(log: RequestLog, cursor: tuple[str, ...]) -> None:
    with pytest.raises(Malformed):
        await log.search(DEMO, rules.search(), PageRequest(3, cursor))


async def test_a_search_that_takes_too_long_says_how_to_narrow_it(
    log: RequestLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(tx, *args, **kwargs):
        await tx.execute(text("SET LOCAL statement_timeout = '20ms'"))
        await tx.execute(text("SELECT pg_sleep(5)"))

    monkeypatch.setattr(log._store, "list", slow)
    with pytest.raises(SearchTooWide) as refused:
        await log.search(DEMO, rules.search(), ALL)
    assert "from" in refused.value.suggestion


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"status": "600"}, "status"), ({"status": "20"}, "status"), ({"status": "xx"}, "status"),
        ({"start": "yesterday"}, "from"), ({"end": "1"}, "to"),
        ({"start": "2026-01-02", "end": "2026-01-01"}, "to"),
        ({"min_ms": -1}, "min_ms"), ({"q": "a\x00"}, "q"),
    ],
)  # fmt: skip
def test_a_search_that_makes_no_sense_names_its_field(asked: dict, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        rules.search(**asked)
    assert refused.value.errors[0].path == field


@given(st.uuids(), st.integers(1, 32))
def test_an_id_lies_among_those_that_begin_like_it(id: UUID, length: int) -> None:
    among = rules.ids_beginning(id.hex[:length])
    assert among is not None and among.first <= id <= among.last
    assert among.first.hex[:length] == among.last.hex[:length] == id.hex[:length]


# --- what cannot hold up usage
async def test_odd_records_are_logged_rather_than_in_the_way(
    log: RequestLog, ship: Intake, answer: Make, clock: FakeClock
) -> None:
    backwards = answer(t0=us(clock.now()) + 10**9)
    odd = answer(model="a\x00b", prompt=2**63 + 5, batch="b" * 5000)
    await ship(backwards, odd)
    requests = {one.request.id.bytes: one.request for one in (await log.search(DEMO, rules.search(), ALL)).data}
    assert requests[backwards.id].total_us == 0
    assert (requests[odd.id].prompt, requests[odd.id].model) == (2**63 - 1, "a\ufffdb")


async def test_records_of_another_time_are_counted_and_not_logged(
    log: RequestLog, ship: Intake, answer: Make, clock: FakeClock, database: Database
) -> None:
    old = answer(t1=us(clock.now() - timedelta(days=31)), t0=0)
    await ship(old, answer())
    assert len(await found(log)) == 1
    async with database.reading() as tx:
        assert (
            await tx.execute(text("SELECT count(DISTINCT id) FROM usage_facts WHERE meter = 'requests'"))
        ).scalar_one() == 2


async def test_nothing_is_kept_where_days_are_none(
    log: RequestLog, ship: Intake, answer: Make, database: Database
) -> None:
    log.days = 0
    await ship(answer(), log.sealer.seal(answer().id, DEMO, answer().t1, b"q", b"a"))
    async with database.reading() as tx:
        assert not await list_partitions(tx, "request_log") and not await list_partitions(tx, "request_content")


async def test_days_that_are_over_go(
    log: RequestLog, ship: Intake, answer: Make, clock: FakeClock, database: Database
) -> None:
    first = answer()
    await ship(first, log.sealer.seal(first.id, DEMO, first.t1, b"q", b"a"))
    clock.advance(days=30)
    await ship(answer())
    await log.keep_house()
    assert len(await found(log)) == 2
    clock.advance(days=1)
    assert await log.keep_house() > 0
    assert len(await found(log)) == 1
    with pytest.raises(NotFound):
        await log.get(reader(), first.id.hex())
    async with database.reading() as tx:
        days = await list_partitions(tx, "request_log")
        assert min(day.end for day in days) > clock.now() - timedelta(days=30)
        assert any(day.start > clock.now() for day in days)


# --- content
async def test_content_is_for_keys_of_its_project(log: RequestLog, ship: Intake, answer: Make) -> None:
    record = answer()
    await ship(record, log.sealer.seal(record.id, DEMO, record.t1, b'{"messages": "secret"}', b"an answer"))
    view = (await log.get(reader(), record.id.hex())).content
    assert view.state is ContentState.SHOWN and view.content is not None
    assert (view.content.request, view.content.answer) == (b'{"messages": "secret"}', b"an answer")
    assert (await log.get(reader(operator=True), record.id.hex())).content.state is ContentState.NOT_YOURS
    other = answer()
    await ship(other)
    assert (await log.get(reader(), other.id.hex())).content.state is ContentState.NOT_KEPT


async def test_content_may_come_in_another_batch_than_its_answer(log: RequestLog, ship: Intake, answer: Make) -> None:
    record = answer()
    await ship(log.sealer.seal(record.id, DEMO, record.t1, b"q", b"a"))
    await ship(record)
    assert (await log.get(reader(), record.id.hex())).content.state is ContentState.SHOWN


async def test_content_lies_sealed_in_the_database(
    log: RequestLog, ship: Intake, answer: Make, database: Database
) -> None:
    record = answer()
    await ship(record, log.sealer.seal(record.id, DEMO, record.t1, b"a canary of words", b"a canary of words"))
    async with database.reading() as tx:
        sealed = (await tx.execute(text("SELECT sealed FROM request_content"))).scalar_one()
    assert b"canary" not in bytes(sealed)


@pytest.mark.parametrize("project", [DEMO, OTHER])
async def test_content_put_under_another_request_or_project_cannot_be_read(
    log: RequestLog, ship: Intake, answer: Make, project
) -> None:
    """Whoever can write the database still cannot show one project's words to another."""
    mine, theirs = answer(), answer(project=OTHER)
    sealed = log.sealer.seal(theirs.id, OTHER, theirs.t1, b"q", b"a")
    target = mine if project == DEMO else answer(project=OTHER)
    moved = type(sealed)(target.id, project, sealed.at, sealed.sealed)
    await ship(mine, theirs, *([target] if project == OTHER else []), moved)
    view = (await log.get(reader(project), target.id.hex())).content
    assert (view.state, view.content) == (ContentState.UNREADABLE, None)


async def test_content_outlives_a_rotation_of_the_secret_key_and_not_its_loss(
    log: RequestLog, ship: Intake, answer: Make, database: Database, clock: FakeClock
) -> None:
    record = answer()
    await ship(record, log.sealer.seal(record.id, DEMO, record.t1, b"q", b"a"))
    old, new = ("k1", b"a secret of the tests"), ("k2", b"another secret of the tests")
    states = []
    for secrets in ([new, old], [new]):
        later = RequestLog(database, clock, Keyring(secrets), log.keys, log.currency, days=30)
        states.append((await later.get(reader(), record.id.hex())).content.state)
    assert states == [ContentState.SHOWN, ContentState.UNREADABLE]


@given(st.binary(max_size=500), st.binary(max_size=500), st.integers(0, 300))
def test_what_is_sealed_comes_back_cut_to_what_is_kept(request: bytes, answer: bytes, times: int) -> None:
    sealer = ContentSealer(Keyring([("k1", b"a secret of the tests")]))
    long = request * times
    record = sealer.seal(b"i" * 16, "proj", 1, long, answer)
    content = sealer.open(b"i" * 16, "proj", record.sealed)
    assert (content.request, content.answer) == (long[:KEPT_BYTES], answer)
    assert (content.request_bytes, content.answer_bytes) == (len(long), len(answer))
    assert len(encoder.encode(record)) < MAX_PAYLOAD


def test_the_largest_content_fits_a_journal_s_record() -> None:
    sealer = ContentSealer(Keyring([("k1", b"a secret of the tests")]))
    noise = os.urandom(1024 * 1024)
    assert len(encoder.encode(sealer.seal(b"i" * 16, "proj", 1, noise, noise))) < MAX_PAYLOAD
