"""What a line may be, what an answer means, how fast and whose turn."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.inference.batches import rules
from skerry.inference.batches.model import (
    MAX_ROWS,
    TRANSITIONS,
    Batch,
    BatchStatus,
    Counts,
    Endpoint,
    FileError,
    ReasonCode,
    Row,
    RowErrorCode,
    because,
)
from skerry.inference.batches.pacing import Pace, Turns
from skerry.inference.batches.rules import Answer, BadLine, InputCheck, Verdict, judge, parse_line

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def line(custom_id="a", method="POST", url="/v1/chat/completions", **body) -> bytes:
    return json.dumps(
        {"custom_id": custom_id, "method": method, "url": url, "body": {"model": "smol", "messages": [], **body}}
    ).encode()


def batch(**changes) -> Batch:
    values = {
        "id": "batch_1", "project": "proj_1", "key": "key_1", "endpoint": Endpoint.CHAT, "input_file": "file-1",
        "completion_window": "24h", "metadata": {}, "status": BatchStatus.IN_PROGRESS,
        "reason": because(ReasonCode.RUNNING), "created_at": NOW, "expires_at": NOW + timedelta(days=1),
        "updated_at": NOW, "counts": Counts(10, 7, 3),
    }  # fmt: skip
    return Batch(**{**values, **changes})


# --- lines


def test_a_request_is_passed_on_byte_for_byte() -> None:
    body = b'{"model" : "m", "x": 1.50, "\\u00e9":"\xc3\xa9"}'
    given = b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body": %b}' % body
    assert parse_line(3, given) == Row(3, "a", "m", body)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"not json", "invalid_json_line"),
        (b"\xff\xfe", "invalid_json_line"),
        (b'{"body": ' + b"[" * 100_000, "invalid_json_line"),
        (b"[]", "invalid_request"),
        (b'{"custom_id": "a"}', "invalid_request"),
        (line(custom_id=7), "invalid_request"),
        (line(custom_id=""), "invalid_custom_id"),
        (line(custom_id="x" * 513), "invalid_custom_id"),
        (line(method="GET"), "invalid_method"),
        (line(url="/v1/files"), "mismatched_endpoint"),
        (line(url="/v1/embeddings"), "mismatched_endpoint"),
        (line(model=""), "missing_model"),
        (line(model=None), "invalid_request"),
        (line(stream=True), "stream_not_supported"),
        (line(pad="x" * (8 * 1024 * 1024)), "line_too_long"),
    ],
)
def test_a_line_that_is_no_request_is_refused_by_name(text: bytes, code: str) -> None:
    with pytest.raises(BadLine) as refused:
        parse_line(7, text, Endpoint.CHAT)
    assert (refused.value.error.code, refused.value.error.line) == (code, 7)
    assert refused.value.error.message


@given(st.binary(max_size=200))
def test_whatever_a_line_is_it_is_a_row_or_refused(text: bytes) -> None:
    try:
        assert parse_line(1, text).custom_id
    except BadLine as bad:
        assert bad.error.code


def test_a_file_is_judged_as_a_whole() -> None:
    check = InputCheck(Endpoint.CHAT)
    for number, text in enumerate([line("a"), b"", b"  ", line("b"), line("a"), b"{"], 1):
        check.line(number, text)
    assert check.rows == 4
    assert [(error.code, error.line) for error in check.verdict()] == [
        ("duplicate_custom_id", 5), ("invalid_json_line", 6),
    ]  # fmt: skip
    assert [error.code for error in InputCheck(Endpoint.CHAT).verdict()] == ["empty_file"]


def test_more_rows_than_a_batch_may_have_are_one_error() -> None:
    check = InputCheck(Endpoint.CHAT)
    check.rows = MAX_ROWS
    assert not check.enough
    check.line(1, line())
    assert check.enough
    assert [error.code for error in check.verdict()] == ["too_many_rows"]


@pytest.mark.parametrize(
    ("text", "hours"),
    [("24h", 24), ("1h", 1), ("168h", 168), ("169h", None), ("0h", None), ("24", None), ("24 h", None), ("-1h", None)],
)
def test_windows_are_whole_hours_up_to_a_week(text: str, hours: int | None) -> None:
    assert rules.window_of(text) == (timedelta(hours=hours) if hours else None)


# --- record ids


def test_a_row_has_one_record_id_however_often_it_is_sent() -> None:
    ids = {rules.record_id("batch_1", NOW, number) for number in range(1, 2001)}
    assert len(ids) == 2000
    assert ids == {rules.record_id("batch_1", NOW, number) for number in range(1, 2001)}
    assert not ids & {rules.record_id("batch_2", NOW, number) for number in range(1, 2001)}
    assert {(id.version, id.variant) for id in ids} == {(7, "specified in RFC 4122")}
    assert {id.int >> 80 for id in ids} == {int(NOW.timestamp() * 1000)}


# --- answers


def refusal(code: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": "no"}}).encode()


@pytest.mark.parametrize(
    ("status", "code", "alone", "verdict"),
    [
        (200, "", True, Verdict.KEEP),
        (400, "bad_request", True, Verdict.KEEP),
        (401, "revoked_key", True, Verdict.KEEP),
        (404, "model_not_found", True, Verdict.KEEP),
        (402, "budget_exhausted", True, Verdict.KEEP),
        (402, "budget_exhausted", False, Verdict.BUSY),
        (429, "rate_limit_exceeded", True, Verdict.BUSY),
        (503, "overloaded", True, Verdict.BUSY),
        (503, "database_unavailable", True, Verdict.BUSY),
        (503, "replica_failed", True, Verdict.FAULT),
        (500, "internal_error", True, Verdict.FAULT),
        (502, "", True, Verdict.FAULT),
    ],
)
def test_what_an_answer_means(status: int, code: str, alone: bool, verdict: Verdict) -> None:
    assert judge(Answer(status, refusal(code)), alone=alone) is verdict


def test_an_answer_becomes_a_line_of_the_output_file() -> None:
    body = {
        "id": "x",
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}},
    }
    answer = Answer(200, json.dumps(body, indent=2).encode(), "req_1", Decimal("0.00001"))
    result = rules.answered(batch(), Row(3, "mine", "smol", b"{}"), answer)
    assert result.ok
    assert b"\n" not in result.content
    told = json.loads(result.content)
    assert told.pop("id").startswith("batch_req_")
    assert told == {
        "custom_id": "mine", "response": {"status_code": 200, "request_id": "req_1", "body": body}, "error": None,
    }  # fmt: skip
    usage = result.usage
    assert (usage.prompt, usage.cached, usage.completion, usage.cost) == (9, 5, 4, Decimal("0.00001"))


def test_a_refusal_becomes_a_line_of_the_error_file_as_it_was_given() -> None:
    result = rules.answered(batch(), Row(3, "mine", "smol", b"{}"), Answer(404, refusal("model_not_found"), "req_1"))
    told = json.loads(result.content)
    assert not result.ok
    assert told["response"]["status_code"] == 404
    assert told["response"]["body"]["error"]["code"] == "model_not_found"
    assert told["error"] is None


@given(st.binary(max_size=100), st.sampled_from([200, 400, 500]))
def test_whatever_a_gateway_answers_is_one_line_of_json(body: bytes, status: int) -> None:
    result = rules.answered(batch(), Row(1, "a\n\u2028", "smol", b"{}"), Answer(status, body))
    assert b"\n" not in result.content
    assert json.loads(result.content)["custom_id"] == "a\n\u2028"


def test_what_was_never_answered_says_why() -> None:
    assert rules.unanswered(batch())[0] is RowErrorCode.EXPIRED
    assert rules.unanswered(batch(status=BatchStatus.CANCELLING))[0] is RowErrorCode.CANCELLED


@pytest.mark.parametrize(
    ("status", "counts", "errors", "end"),
    [
        (BatchStatus.FINALIZING, Counts(3, 2, 1), (), BatchStatus.COMPLETED),
        (BatchStatus.FINALIZING, Counts(3, 2, 0), (), BatchStatus.EXPIRED),
        (BatchStatus.FINALIZING, Counts(3, 2, 0), (FileError("x", "y"),), BatchStatus.FAILED),
        (BatchStatus.CANCELLING, Counts(3, 3, 0), (), BatchStatus.CANCELLED),
    ],
)
def test_where_a_batch_ends(status, counts, errors, end) -> None:
    found, why = rules.outcome(batch(status=status, counts=counts, errors=errors))
    assert found is end
    assert TRANSITIONS.allows(status, end)
    assert TRANSITIONS.is_final(end)
    assert why.advice


@pytest.mark.parametrize("status", list(BatchStatus))
def test_what_can_be_cancelled_is_what_the_table_lets_be_cancelled(status: BatchStatus) -> None:
    can = TRANSITIONS.allows(status, BatchStatus.CANCELLING) or status is BatchStatus.CANCELLING
    assert (rules.why_not_cancellable(status) is None) == can


def test_every_reason_has_advice() -> None:
    assert all(code.advice for code in ReasonCode)


# --- pace


@given(st.lists(st.sampled_from(["go", "answered", "waited", "refused"]), max_size=300), st.integers(1, 64))
def test_the_pace_stays_within_its_bounds(steps: list[str], most: int) -> None:
    pace, now = Pace(most), 0.0
    for step in steps:
        now += 1.0
        if step == "go":
            if pace.open(now):
                pace.began()
        elif pace.under_way:
            if step == "refused":
                pace.refused(now, None)
                assert not pace.open(now)
            else:
                pace.answered(waited=step == "waited")
            pace.ended()
        assert 1 <= pace.limit <= most
        assert 0 <= pace.under_way <= most
    assert pace.open(now + 3600) or pace.under_way >= int(pace.limit), "it opens again by itself"


def _round(pace: Pace, now: float, places: int) -> int:
    """Fill the pace; a server with `places` answers those it has a place for. How many it answered."""
    sent = 0
    while pace.open(now):
        pace.began()
        sent += 1
    for n in range(sent):
        if n < places:
            pace.answered()
        else:
            pace.refused(now, None)
        pace.ended()
    return min(sent, places)


@pytest.mark.parametrize("places", [1, 3, 12, 40])
def test_the_pace_finds_out_how_much_there_is_room_for(places: int) -> None:
    pace, now = Pace(64), 0.0
    for _ in range(400):
        now += 60.0
        _round(pace, now, places)
    served = [_round(pace, now := now + 60.0, places) for _ in range(50)]
    assert max(served) == places
    assert sum(served) / len(served) >= 0.5 * places


def test_the_pace_does_not_grow_where_it_is_not_used() -> None:
    pace = Pace(64)
    for _ in range(100):
        pace.began()
        pace.answered()
        pace.ended()
    assert pace.limit == 4


def test_refusals_in_a_row_close_for_longer_and_a_volley_counts_once() -> None:
    pace = Pace(64)
    pace.refused(0.0, None)
    first = pace.closed_until
    limit = pace.limit
    for _ in range(10):
        pace.refused(first / 2, None)
    assert (pace.closed_until, pace.limit) == (first, limit)
    pace.refused(first, None)
    assert pace.closed_until - first > first
    pace.answered()
    pace.refused(100.0, 12.0)
    assert pace.closed_until == 112.0, "what the refusal asked for is kept to"


# --- turns


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=1), st.integers(1, 60))
def test_projects_take_turns_however_many_batches_they_have(batches: dict[str, int], picks: int) -> None:
    turns: Turns[tuple[str, int]] = Turns()
    for project, count in batches.items():
        for n in range(count):
            turns.add(project, (project, n))
    served = Counter()
    for _ in range(picks):
        item, taken = turns.pick(lambda item: item)
        assert item == taken
        assert item[1] == 0, "within a project what came first goes first"
        served[item[0]] += 1
    counts = [served[project] for project in batches]
    assert max(counts) - min(counts) <= 1


def test_what_has_nothing_to_give_is_passed_over() -> None:
    turns: Turns[str] = Turns()
    for project, item in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        turns.add(project, item)
    assert [turns.pick(lambda item: item if item != "a1" else None)[0] for _ in range(3)] == ["a2", "b1", "a2"]
    assert turns.pick(lambda item: None) is None
    turns.remove("b", "b1")
    assert [turns.pick(lambda item: item)[0] for _ in range(2)] == ["a1", "a1"]
