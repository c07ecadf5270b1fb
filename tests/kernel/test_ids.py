from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from skerry.kernel.ids import derived_uuid, format_id, new_id, new_uuid7

uuids = st.integers(0, 2**128 - 1).map(lambda n: UUID(int=n))


@given(uuids, uuids)
def test_written_ids_sort_like_the_numbers(a, b):
    assert (format_id("x", a) < format_id("x", b)) == (a.int < b.int)


@given(st.integers(0, 2**48 - 1))
def test_uuid7_has_its_time_version_and_variant(milliseconds):
    value = new_uuid7(milliseconds)
    assert value.version == 7
    assert value.variant == "specified in RFC 4122"
    assert value.int >> 80 == milliseconds


@given(st.integers(0, 2**48 - 2))
def test_later_ids_sort_after_earlier_ones(milliseconds):
    assert format_id("x", new_uuid7(milliseconds)) < format_id("x", new_uuid7(milliseconds + 1))


def test_ids_are_not_repeated():
    assert len({new_id("wl") for _ in range(10_000)}) == 10_000


def test_the_prefix_is_joined_as_each_kind_is_written():
    value = UUID(int=0)
    assert format_id("wl", value) == "wl_" + "0" * 26
    assert format_id("file-", value) == "file-" + "0" * 26


@given(st.lists(st.text("abc", max_size=3), min_size=1, max_size=4))
def test_derived_ids_depend_on_the_parts_and_nothing_else(parts):
    value = derived_uuid(*parts)
    assert value == derived_uuid(*parts)
    assert value.version == 8
    assert value != derived_uuid(*parts, "")


def test_derived_ids_know_where_a_part_ends():
    assert derived_uuid("ab", "c") != derived_uuid("a", "bc")
