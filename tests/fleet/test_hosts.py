"""Ranges of hostnames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.fleet.file.hosts import expand, fold


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("one", ["one"]),
        ("a-[1-3]", ["a-1", "a-2", "a-3"]),
        ("a-[08-11]", ["a-08", "a-09", "a-10", "a-11"]),
        ("a-[1,3,7-8].example.org", ["a-1.example.org", "a-3.example.org", "a-7.example.org", "a-8.example.org"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
    ],
)
def test_a_range_is_its_hosts_in_order(text, hosts):
    assert expand(text) == hosts


@pytest.mark.parametrize(
    "text",
    ["", "a-[3-1]", "a-[x]", "a-[]", "a-[1-", "a b", "-a", "a-[1-999999]", "[1-999][1-999]", "a/b", "a-[1--2]"],
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        expand(text)


@given(st.sets(st.integers(0, 300), min_size=1), st.integers(1, 4))
def test_folding_and_expanding_give_the_same_hosts(numbers, width):
    hosts = {f"n-{number:0{width}d}" for number in numbers}
    folded = fold(hosts)
    assert sorted(host for name in folded for host in expand(name)) == sorted(hosts)


def test_folding_is_short():
    assert fold([f"a-{number:02d}" for number in range(1, 33)] + ["b", "a-40"]) == ["b", "a-[01-32,40]"]
