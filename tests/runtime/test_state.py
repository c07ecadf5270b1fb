from enum import StrEnum

import pytest
from sqlalchemy import Column, DateTime, MetaData, Table, Text, insert, select
from sqlalchemy.dialects.postgresql import JSONB

from skerry.kernel.states import IllegalTransition, StateMachine
from skerry.runtime.state import Reason, transition

boats = Table(
    "boats",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB),
    Column("updated_at", DateTime(timezone=True)),
    Column("berth", Text),
)


class Boat(StrEnum):
    MOORED = "moored"
    SAILING = "sailing"
    SUNK = "sunk"


MACHINE = StateMachine({Boat.MOORED: {Boat.SAILING}, Boat.SAILING: {Boat.MOORED, Boat.SUNK}, Boat.SUNK: set()})
WIND = Reason("wind", "A fair wind came up.")


@pytest.fixture
async def boat(database):
    async with database.transaction() as tx:
        await tx.run_sync(boats.create)
        await tx.execute(insert(boats).values(id="b_1", project="prj_a", status="moored"))
    return "b_1"


async def move(tx, events, boat, before, after, project="prj_a", **options):
    return await transition(
        tx, events, MACHINE, boats, id=boat, project=project, before=before, after=after, reason=WIND, **options
    )


async def test_a_step_changes_the_row_and_leaves_an_event(database, events, boat, clock):
    async with database.transaction() as tx:
        assert await move(tx, events, boat, Boat.MOORED, Boat.SAILING, values={"berth": None})
    async with database.reading() as tx:
        row = (await tx.execute(select(boats))).one()
        [event] = (await events.list(tx, "prj_a", boat)).data
    reason = {"code": "wind", "message": "A fair wind came up."}
    assert (row.status, row.status_reason, row.updated_at) == ("sailing", reason, clock.now())
    assert event.type == "boat.sailing"
    assert event.resource_kind == "boat"
    assert event.data == {"before": "moored", "after": "sailing", "reason": reason}


@pytest.mark.parametrize(
    ("before", "after", "project"), [(Boat.SAILING, Boat.SUNK, "prj_a"), (Boat.MOORED, Boat.SAILING, "prj_b")]
)
async def test_a_row_that_is_not_in_that_state_or_project_is_left_alone(database, events, boat, before, after, project):
    async with database.transaction() as tx:
        assert not await move(tx, events, boat, before, after, project)
        assert (await tx.execute(select(boats.c.status))).scalar() == "moored"
        assert (await events.list(tx, project)).data == ()


async def test_a_step_the_machine_does_not_have_is_refused(database, events, boat):
    async with database.transaction() as tx:
        with pytest.raises(IllegalTransition, match="boat b_1 is moored and cannot become sunk"):
            await move(tx, events, boat, Boat.MOORED, Boat.SUNK)


async def test_of_two_that_take_the_same_step_one_wins(database, events, boat):
    async with database.transaction() as first:
        assert await move(first, events, boat, Boat.MOORED, Boat.SAILING)
    async with database.transaction() as second:
        assert not await move(second, events, boat, Boat.MOORED, Boat.SAILING)
    async with database.reading() as tx:
        assert len((await events.list(tx, "prj_a")).data) == 1


async def test_the_kind_can_be_named(database, events, boat):
    async with database.transaction() as tx:
        await move(tx, events, boat, Boat.MOORED, Boat.SAILING, kind="vessel")
        [event] = (await events.list(tx, "prj_a")).data
    assert event.type == "vessel.sailing"


def test_a_reason_has_a_code():
    with pytest.raises(ValueError):
        Reason("")
