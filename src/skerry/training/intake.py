"""What supervisors report: kept once, told to the job's timeline, and taken off what is charged.

The supervisor runs as the customer's own user, so what it says is believed within bounds: events and metrics only touch
the job itself, and of an attempt's time no more is taken off than `excluding` allows.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from skerry.compute.model import Attempt
from skerry.db.database import Tx
from skerry.db.notify import WORK, notify
from skerry.kernel.errors import Unavailable
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId
from skerry.training.errors import NotAJob
from skerry.training.excluding import Excluding, Stretch
from skerry.training.measured import usable
from skerry.training.model import Ending, Job, Point, Restart, Told, Wish
from skerry.training.reporting import Event, EventType, LastRestart, LostTime, TrainingReport
from skerry.training.service import KIND, Jobs

MOST_EVENTS: Final = 200
MOST_METRICS: Final = 20_000
_DATA_BYTES: Final = 8192
_TEXT: Final = 2000
_STEP_MAX: Final = 2**62


class Intake:
    def __init__(self, jobs: Jobs, excluding: Excluding) -> None:
        self._jobs = jobs
        self._excluding = excluding
        self._store = jobs.store
        self._clock = jobs.clock

    async def take(
        self, project: ProjectId, workload: WorkloadId, attempt: AttemptId, report: TrainingReport
    ) -> dict[str, Any]:
        """The answer to the supervisor. A report that was there before changes nothing. Raises NotAJob."""
        async with self._jobs.db.transaction() as tx:
            job = await self._store.of_workload(tx, project, workload)
            if job is None:
                raise NotAJob(f"workload {workload} runs no training job")
            known = await self._store.told(tx, project, [job.id])
            before = known.get(attempt)
            if before is None or report.seq > before.seq:
                await self._keep(tx, job, attempt, before, report)
        reached = max((one.step for id, one in known.items() if id != attempt), default=0)
        command = "checkpoint_and_stop" if job.wish is Wish.PAUSE else None
        return {"command": command, "reached_step": reached}

    async def _keep(self, tx: Tx, job: Job, attempt_id: AttemptId, before: Told | None, report: TrainingReport) -> None:
        attempt = next((one for one in await self._jobs.attempts(tx, job) if one.id == attempt_id), None)
        if attempt is None:
            raise NotAJob(f"there is no attempt {attempt_id}")
        already = before.excluded if before is not None else 0
        excluded = await self._exclude(tx, attempt, report, already)
        now = self._clock.now()
        told = replace(
            _told(job, attempt_id, report, now),
            excluded=already + excluded,
            checkpoint_at=_saved_at(report, now) or (before.checkpoint_at if before is not None else None),
        )
        await self._store.put_told(tx, told)
        for event in report.events[:MOST_EVENTS]:
            await self._jobs.record(tx, job, f"{KIND}.{_type(event)}", _data(event, told))
        points = [
            Point(metric.name, metric.step, _time(metric.at, now), float(metric.value))
            for metric in report.metrics[:MOST_METRICS]
            if metric.value is not None and usable(metric.name, metric.step, metric.value)
        ]
        if points:
            await self._jobs.measured.add(tx, job.project, job.id, points)
        if before is None or _matters(before, told):
            await self._store.hint(tx, job.project, job.id, now)
            await notify(tx, WORK, KIND)

    async def _exclude(self, tx: Tx, attempt: Attempt, report: TrainingReport, before: int) -> int:
        lost = [_stretch(one) for one in report.lost if one.not_charged and one.ended_at > one.started_at]
        if not lost:
            return 0
        if attempt.ready_at is None:
            words = "the start of this attempt is not on record yet: send the report again"
            raise Unavailable(words, code="attempt_not_started", retry_after=1)
        return await self._excluding.said(tx, attempt, report.seq, lost, before)


def _told(job: Job, attempt: AttemptId, report: TrainingReport, now: datetime) -> Told:
    end = report.end
    return Told(
        attempt=attempt,
        job=job.id,
        project=job.project,
        reported_at=now,
        seq=report.seq,
        generation=report.generation,
        phase=report.state.value,
        step=_bounded(report.step),
        checkpoint_step=_bounded(report.checkpoint_step) if report.checkpoint_step is not None else None,
        restarts=report.restarts,
        last_restart=_restart(report.last_restart, now) if report.last_restart is not None else None,
        productive_ms=max(0, report.goodput.productive_ms),
        losses_ms={loss.value: ms for loss, ms in report.goodput.losses.items() if ms > 0},
        stragglers=tuple(
            {"rank": one.rank, "node": _text(one.node), "step_ms": one.step_ms, "ratio": one.ratio}
            for one in report.stragglers[:MOST_EVENTS]
        ),
        ending=Ending(end.reason.value, end.exit_code, _text(end.detail), end.ours) if end is not None else None,
    )


def _saved_at(report: TrainingReport, now: datetime) -> datetime | None:
    saved = [event.at for event in report.events if event.type is EventType.CHECKPOINT_COMPLETE]
    return _time(max(saved), now) if saved else None


def _restart(last: LastRestart, now: datetime) -> Restart:
    return Restart(
        cause=last.cause.value,
        lost_seconds=max(0, last.lost_ms) / 1000,
        at=_time(last.at, now),
        rank=last.rank,
        node=_text(last.node) if last.node is not None else None,
        exit_code=last.exit_code,
        step=_bounded(last.step),
        resumed_step=_bounded(last.resumed_step),
        our_fault=last.ours,
        detail=_text(last.detail),
    )


def _matters(before: Told, now: Told) -> bool:
    """Whether the job may look otherwise for it: steps and seconds alone do not change its state."""
    seen = (before.phase, before.restarts, before.ending, before.last_restart, before.generation)
    return seen != (now.phase, now.restarts, now.ending, now.last_restart, now.generation)


def _type(event: Event) -> str:
    """`recovered` is what customers know as the job having been restarted."""
    return "restarted" if event.type is EventType.RECOVERED else event.type.value


def _data(event: Event, told: Told) -> dict[str, Any]:
    data = _clean(event.data)
    if not isinstance(data, dict) or len(json.dumps(data)) > _DATA_BYTES:
        data = {"too_large": True}
    if event.type is EventType.RECOVERED and told.last_restart is not None:
        last = told.last_restart
        data |= {"cause": last.cause, "resumed_step": last.resumed_step, "charged": not last.our_fault}
    return {**data, "happened_at": _iso(event.at)}


def _clean(value: Any, depth: int = 0) -> Any:
    """JSON that the database can hold: no NUL, no numbers that are none, not too deep."""
    if depth > 8:
        return None
    match value:
        case str():
            return _text(value)
        case Mapping():
            return {_text(str(key)): _clean(one, depth + 1) for key, one in value.items()}
        case list() | tuple():
            return [_clean(one, depth + 1) for one in value]
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
        case _:
            return value


def _text(text: str) -> str:
    return text[:_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _bounded(step: int) -> int:
    return min(max(0, step), _STEP_MAX)


def _stretch(lost: LostTime) -> Stretch:
    return Stretch(_moment(lost.started_at), _moment(lost.ended_at), lost.loss.value)


def _time(ms: int, now: datetime) -> datetime:
    """A node's clock may be wrong: nothing was measured after now."""
    return min(_moment(ms), now)


def _iso(ms: int) -> str:
    return _moment(ms).isoformat().replace("+00:00", "Z")


def _moment(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=min(max(0, ms), 7_258_118_400_000))
