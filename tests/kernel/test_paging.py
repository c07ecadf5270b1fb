import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.kernel.errors import Malformed
from skerry.kernel.paging import Page, PageRequest, decode_cursor, encode_cursor

keys = st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), max_size=4).map(tuple)


@given(keys)
def test_a_cursor_survives_the_way_there_and_back(key):
    assert decode_cursor(encode_cursor(key)) == key


@given(st.text())
def test_any_other_text_is_refused_or_read_never_worse(text):
    try:
        assert isinstance(decode_cursor(text), tuple)
    except Malformed as error:
        assert error.errors[0].path == "after"


@pytest.mark.parametrize("json", ["{}", "[1]", "null", "[null]", '["a\\u0000"]', "[" * 100_000])
def test_what_we_did_not_write_is_refused(json):
    with pytest.raises(Malformed):
        decode_cursor(base64.urlsafe_b64encode(json.encode()).decode())


@given(st.lists(st.integers(), unique=True, max_size=40).map(sorted), st.integers(1, 10))
def test_walking_all_pages_sees_every_row_once(rows, limit):
    seen, request = [], PageRequest(limit)
    while True:
        after = int(request.after[0]) if request.after else None
        rest = [row for row in rows if after is None or row > after]
        page = Page.cut(rest[: limit + 1], request, lambda row: (str(row),))
        seen += page.data
        assert page.has_more == (page.next_cursor is not None)
        if not page.has_more:
            break
        request = PageRequest.parse(limit, page.next_cursor)
    assert seen == rows


@pytest.mark.parametrize("limit", [0, -1, 501])
def test_a_limit_out_of_range_is_refused_by_name(limit):
    with pytest.raises(Malformed) as caught:
        PageRequest.parse(limit)
    assert caught.value.errors[0].path == "limit"


def test_a_page_can_be_mapped():
    assert Page((1, 2), "next").map(str) == Page(("1", "2"), "next")
