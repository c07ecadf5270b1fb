import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.kernel.quantities import QUANTITY_MAX, largest_remainder, require_quantity

weights = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 10**12), min_size=1, max_size=20)
totals = st.integers(-(10**15), 10**15)


@given(totals, weights.filter(lambda w: sum(w.values()) > 0))
def test_shares_add_up_and_are_off_by_less_than_one(total, by):
    shares, whole = largest_remainder(total, by), sum(by.values())
    assert sum(shares.values()) == total
    assert shares.keys() == by.keys()
    for name, share in shares.items():
        assert abs(share * whole - total * by[name]) < whole


@given(totals, weights.filter(lambda w: sum(w.values()) > 0), st.randoms())
def test_shares_do_not_depend_on_the_order(total, by, random):
    names = list(by)
    random.shuffle(names)
    assert largest_remainder(total, {name: by[name] for name in names}) == largest_remainder(total, by)


@given(totals, weights.filter(lambda w: sum(w.values()) > 0))
def test_no_weight_gets_nothing(total, by):
    assert all(share == 0 for name, share in largest_remainder(total, by).items() if by[name] == 0)


def test_ties_go_to_the_smaller_key():
    assert largest_remainder(2, {"c": 1, "a": 1, "b": 1}) == {"a": 1, "b": 1, "c": 0}


def test_nothing_to_share_by():
    assert largest_remainder(0, {"a": 0}) == {"a": 0}
    with pytest.raises(ValueError):
        largest_remainder(1, {"a": 0})
    with pytest.raises(ValueError):
        largest_remainder(1, {"a": 2, "b": -1})


@pytest.mark.parametrize("value", [True, 1.0, "1", None, QUANTITY_MAX + 1, -QUANTITY_MAX - 1])
def test_a_quantity_is_a_64_bit_integer(value):
    with pytest.raises(ValueError):
        require_quantity(value)


def test_a_quantity_passes_through():
    assert require_quantity(-QUANTITY_MAX) == -QUANTITY_MAX
