from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.kernel.errors import Conflict
from skerry.kernel.states import IllegalTransition, StateMachine


class Light(StrEnum):
    RED = "red"
    GREEN = "green"
    BROKEN = "broken"


tables = st.fixed_dictionaries({light: st.sets(st.sampled_from(Light)) for light in Light})


@given(tables, st.sampled_from(Light), st.sampled_from(Light))
def test_allowed_is_what_the_table_says(table, before, after):
    machine = StateMachine(table)
    assert machine.allows(before, after) == (after in table[before])
    if machine.allows(before, after):
        machine.require(before, after)
    else:
        with pytest.raises(IllegalTransition, match=f"{before} and cannot become {after}"):
            machine.require(before, after)


@given(tables)
def test_final_is_a_state_that_nothing_follows(table):
    machine = StateMachine(table)
    for light in Light:
        assert machine.is_final(light) == (not table[light])
        assert machine.after(light) == table[light]


def test_every_state_needs_a_row():
    with pytest.raises(ValueError, match="broken"):
        StateMachine({Light.RED: {Light.GREEN}, Light.GREEN: set()})
    with pytest.raises(ValueError):
        StateMachine({})


def test_an_illegal_step_is_a_conflict_that_names_what_is_possible():
    machine = StateMachine({Light.RED: {Light.GREEN}, Light.GREEN: {Light.RED}, Light.BROKEN: set()})
    with pytest.raises(Conflict, match="it can become green") as caught:
        machine.require(Light.RED, Light.BROKEN, "the light")
    assert caught.value.code == "illegal_transition"
    with pytest.raises(Conflict, match="it is final"):
        machine.require(Light.BROKEN, Light.RED)
