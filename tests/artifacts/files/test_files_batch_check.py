"""The purpose `batch`: each line of an input file is looked at while it comes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.artifacts.files.errors import BadFile
from skerry.inference.batches.checking import BatchCheck
from skerry.inference.batches.model import MAX_LINE_BYTES

GOOD = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "smol", "prompt": "x"}}


def line(number: int, **changes) -> bytes:
    return json.dumps(GOOD | {"custom_id": f"row {number}"} | changes).encode()


def checked(data: bytes, cuts=(), **given_) -> object:
    """What is found, or which line is refused and why."""
    check, at = BatchCheck(**given_), 0
    try:
        for cut in [*sorted(cuts), len(data)]:
            check.feed(data[at:cut])
            at = cut
        return check.finish()
    except BadFile as bad:
        return bad.line, bad.code


LINES = st.lists(
    st.sampled_from([b"", b" ", b"{", b"[]", b"\xff", line(1), line(2), line(3), line(4), line(5, method="PUT")]),
    max_size=8,
)


@settings(deadline=None)
@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.data())
def test_the_verdict_is_the_same_wherever_the_bytes_are_cut(lines, end, closed, data):
    content = end.join(lines) + (end if closed else b"")
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=20))
    whole = checked(content)
    assert checked(content, cuts) == whole
    assert checked(content, range(len(content))) == whole
    seen = [text for text in lines if text.strip()]
    good = bool(seen) and len(set(seen)) == len(seen) and all(b"row" in text and b"PUT" not in text for text in seen)
    assert (whole == {"rows": len(seen), "models": ["smol"]}) == good


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"", (None, "empty_file")),
        (line(1) + b"\n{", (2, "invalid_json_line")),
        (b"\n" + line(1, url="/v1/files"), (2, "mismatched_endpoint")),
        (line(1, body={"prompt": "no model"}), (1, "invalid_request")),
        (line(1, body={"model": "smol", "stream": True}), (1, "stream_not_supported")),
        (line(1) + b"\n\n" + line(1), (3, "duplicate_custom_id")),
        (b"\n".join(map(line, range(4))), (4, "too_many_rows")),
        (b"[" * 100_000, (1, "invalid_request")),
        (line(1)[:-2] + b', "deep": ' + b"[" * 100_000, (1, "invalid_json_line")),
        (b"x" * (MAX_LINE_BYTES + 1), (1, "line_too_long")),
    ],
)
def test_what_is_wrong_is_said_with_its_line(data, verdict):
    assert checked(data, most_rows=3) == verdict


def test_a_line_without_end_is_refused_while_it_comes():
    check = BatchCheck()
    with pytest.raises(BadFile) as refused:
        for _ in range(2 * MAX_LINE_BYTES // 2**20):
            check.feed(b"x" * 2**20)
    assert refused.value.code == "line_too_long"
