"""What supervisors report: kept once, told to the timeline, and taken off what is charged."""

import pytest

from skerry.compute.model import Outcome
from skerry.kernel.errors import Unavailable
from skerry.kernel.paging import PageRequest
from skerry.training.measured import KEPT, SERIES
from skerry.training.reporting import Event, EventType, Loss, LostTime, Metric
from tests.training.control.conftest import ask, goodput, ms


def lost(world, seconds: float, ago: float, loss: Loss = Loss.DETECTION, *, free: bool = True) -> LostTime:
    """A stretch that began `ago` seconds ago."""
    start = ms(world.clock.now()) - int(ago * 1000)
    return LostTime(loss=loss, started_at=start, ended_at=start + int(seconds * 1000), not_charged=free)


def metric(world, step: int, value: float | None = 1.0, name: str = "loss") -> Metric:
    return Metric(name=name, step=step, at=ms(world.clock.now()), value=value)


async def points(world, view, names=("loss",)):
    return (await world.jobs.points(world.customer, view.job.id, names, PageRequest(500))).data


async def test_a_report_counts_once(world):
    view = await world.create(nodes=2)
    await world.pass_time(60)
    what = {
        "step": 5,
        "events": (Event(type=EventType.CHECKPOINT_COMPLETE, at=ms(world.clock.now()), data={"step": 5}),),
        "metrics": (metric(world, 5),),
        "lost": (lost(world, 10, 60, Loss.STARTUP),),
    }
    for _ in range(3):
        await world.report(view, seq=1, **what)
    view = await world.get(view)
    assert view.excluded == 20, "ten seconds on two accelerators"
    assert [event.type for event in await world.timeline(view)].count("training_job.checkpoint_complete") == 1
    assert [(point.step, point.value) for point in await points(world, view)] == [(5, 1.0)]


async def test_only_what_was_no_doing_of_the_customer_s_is_not_charged(world):
    view = await world.create(accelerators_per_task=2)
    await world.pass_time(100)
    stretches = (lost(world, 5, 100, Loss.STARTUP), lost(world, 7, 50), lost(world, 30, 40, Loss.REDONE, free=False))
    await world.report(view, lost=stretches)
    view = await world.end(view, Outcome.SUCCEEDED, exit_code=0, message="")
    assert view.excluded == 24
    assert await world.charged() == 2 * 100 - 24
    assert view.cost.amount > 0


async def test_a_report_cannot_make_a_job_free(world):
    view = await world.create()
    await world.pass_time(3600)
    for start in range(3600, 0, -600):
        await world.report(view, lost=(lost(world, 600, start),))
    view = await world.get(view)
    assert view.excluded == 600 + 1800, "ten minutes, and half of what it ran"


async def test_what_a_lost_node_took_is_not_charged(world):
    view = await world.create()
    await world.pass_time(100)
    saved = Event(type=EventType.CHECKPOINT_COMPLETE, at=ms(world.clock.now()), data={"step": 10})
    await world.report(view, step=10, checkpoint_step=10, events=(saved,))
    await world.pass_time(40)
    view = await world.lost(view)
    assert view.excluded == 40
    assert await world.charged() == 100
    restarted = [event for event in await world.timeline(view) if event.type == "training_job.restarted"]
    assert [(event.data["cause"], event.data["resumed_step"], event.data["not_charged"]) for event in restarted] == [
        ("node_lost", 10, 40)
    ]


async def test_time_goes_where_it_went(world):
    view = await world.create()
    await world.pass_time(100)
    await world.report(view, goodput=goodput(80_000, startup=15_000, redone=5_000))
    told = await world.jobs.goodput(world.customer, view.job.id)
    assert (told.productive, told.total, told.share) == (80, 100, 0.8)
    assert [(loss.name, loss.seconds) for loss in told.losses] == [("startup", 15), ("redone", 5)]


async def test_time_nobody_told_of_is_named_so(world):
    view = await world.create()
    await world.pass_time(50)
    told = await world.jobs.goodput(world.customer, view.job.id)
    assert [(loss.name, loss.seconds) for loss in told.losses] == [("unreported", 50)]


async def test_an_attempt_that_is_not_known_to_have_begun_is_asked_to_report_again(world):
    view = await world.jobs.create(world.customer, ask())
    await world.control.step()
    with pytest.raises(Unavailable):
        await world.report(view, lost=(lost(world, 1, 1),))


async def test_a_series_keeps_its_ends_and_bounded_room(world):
    view = await world.create()
    for first in range(1, 5 * KEPT, 1000):
        await world.report(view, metrics=tuple(metric(world, step, float(step)) for step in range(first, first + 1000)))
    (series,) = await world.jobs.series(world.customer, view.job.id)
    assert series.latest.step == 10_000
    assert KEPT / 2 < series.points <= KEPT
    first = (await points(world, view))[:3]
    assert [point.step for point in first] == [1, 1 + series.stride, 1 + 2 * series.stride]


async def test_a_step_that_is_measured_again_takes_the_place_of_the_first(world):
    view = await world.create()
    await world.report(view, metrics=(metric(world, 1, 5.0), metric(world, 2, 4.0), metric(world, 3, 3.0)))
    await world.report(view, metrics=(metric(world, 2, 4.5), metric(world, 3, 3.5), metric(world, 4, 2.5)))
    assert [(point.step, point.value) for point in await points(world, view)] == [(1, 5), (2, 4.5), (3, 3.5), (4, 2.5)]


async def test_what_is_no_number_and_what_is_too_much_is_left_out(world):
    view = await world.create()
    many = tuple(metric(world, 1, name=f"m{n:03}") for n in range(SERIES + 5))
    odd = (metric(world, 1, None), metric(world, -1), metric(world, 1, name="x" * 300), metric(world, 1, name="a\nb"))
    await world.report(view, metrics=(*odd, *many))
    assert len(await world.jobs.series(world.customer, view.job.id)) == SERIES


async def test_an_event_s_data_cannot_break_the_timeline(world):
    view = await world.create()
    bad = {"text": "a\0b\ud800", "number": float("nan"), "deep": {"a": [{"b": {"c": {"d": {"e": {"f": {}}}}}}]}}
    events = (
        Event(type=EventType.STOPPING, at=2**62, data=bad),
        Event(type=EventType.STRAGGLER, at=-5, data={"text": "x" * 100_000, **{str(n): "y" * 100 for n in range(500)}}),
    )
    await world.report(view, events=events)
    first, second = (await world.timeline(view))[-2:]
    assert first.data["text"] == "a\ufffdb?"
    assert first.data["number"] is None
    assert second.data["too_large"] is True
