"""Requests about training jobs."""

from collections.abc import Mapping, Sequence

from skerry.client.answers.base import reader
from skerry.client.answers.training import Goodput, Measured, MetricPoint, TrainingEstimate, TrainingJob
from skerry.client.call import CONTROL, Call, Page, act, at, create, estimate, get, listing, raw

JOBS = f"{CONTROL}/training/jobs"


def _wish(
    name: str,
    command: Sequence[str],
    *,
    source: str | None = None,
    nodes: int | None = None,
    tasks_per_node: int | None = None,
    accelerators_per_task: int | None = None,
    launcher: str | None = None,
    sku: str | None = None,
    capacity_class: str | None = None,
    reservation_id: str | None = None,
    max_duration_seconds: int | None = None,
    max_restarts: int | None = None,
    checkpoint_dir: str | None = None,
    env: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    max_cost: str | None = None,
) -> dict[str, object]:
    return {
        "name": name,
        "command": list(command),
        "source": source,
        "nodes": nodes,
        "tasks_per_node": tasks_per_node,
        "accelerators_per_task": accelerators_per_task,
        "launcher": launcher,
        "sku": sku,
        "capacity_class": capacity_class,
        "reservation_id": reservation_id,
        "max_duration_seconds": max_duration_seconds,
        "max_restarts": max_restarts,
        "checkpoint_dir": checkpoint_dir,
        "env": dict(env) if env else None,
        "tags": dict(tags) if tags else None,
        "max_cost": max_cost,
    }


def create_job(
    name: str,
    command: Sequence[str],
    *,
    source: str | None = None,
    nodes: int | None = None,
    tasks_per_node: int | None = None,
    accelerators_per_task: int | None = None,
    launcher: str | None = None,
    sku: str | None = None,
    capacity_class: str | None = None,
    reservation_id: str | None = None,
    max_duration_seconds: int | None = None,
    max_restarts: int | None = None,
    checkpoint_dir: str | None = None,
    env: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    max_cost: str | None = None,
) -> Call[TrainingJob]:
    """Queued at once. `source`: the id of an uploaded file of purpose `source`, or a folder shared with the project."""
    wish = _wish(
        name,
        command,
        source=source,
        nodes=nodes,
        tasks_per_node=tasks_per_node,
        accelerators_per_task=accelerators_per_task,
        launcher=launcher,
        sku=sku,
        capacity_class=capacity_class,
        reservation_id=reservation_id,
        max_duration_seconds=max_duration_seconds,
        max_restarts=max_restarts,
        checkpoint_dir=checkpoint_dir,
        env=env,
        tags=tags,
        max_cost=max_cost,
    )
    return create(JOBS, reader(TrainingJob), wish)


def estimate_job(
    name: str,
    command: Sequence[str],
    *,
    source: str | None = None,
    nodes: int | None = None,
    tasks_per_node: int | None = None,
    accelerators_per_task: int | None = None,
    launcher: str | None = None,
    sku: str | None = None,
    capacity_class: str | None = None,
    reservation_id: str | None = None,
    max_duration_seconds: int | None = None,
    max_restarts: int | None = None,
    checkpoint_dir: str | None = None,
    env: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    max_cost: str | None = None,
) -> Call[TrainingEstimate]:
    """What `create` would cost. Makes nothing."""
    wish = _wish(
        name,
        command,
        source=source,
        nodes=nodes,
        tasks_per_node=tasks_per_node,
        accelerators_per_task=accelerators_per_task,
        launcher=launcher,
        sku=sku,
        capacity_class=capacity_class,
        reservation_id=reservation_id,
        max_duration_seconds=max_duration_seconds,
        max_restarts=max_restarts,
        checkpoint_dir=checkpoint_dir,
        env=env,
        tags=tags,
        max_cost=max_cost,
    )
    return estimate(JOBS, reader(TrainingEstimate), wish)


def list_jobs(
    *, status: str | None = None, name: str | None = None, limit: int | None = None
) -> Call[Page[TrainingJob]]:
    """The newest first."""
    return listing(JOBS, reader(TrainingJob), status=status, name=name, limit=limit)


def get_job(job_id: str) -> Call[TrainingJob]:
    return get(at(JOBS, job_id), reader(TrainingJob))


def cancel_job(job_id: str) -> Call[TrainingJob]:
    """End it for good. Its checkpoints, logs and metrics stay."""
    return act(at(JOBS, job_id, "cancel"), reader(TrainingJob))


def pause_job(job_id: str) -> Call[TrainingJob]:
    """Write a checkpoint, and give the nodes back."""
    return act(at(JOBS, job_id, "pause"), reader(TrainingJob))


def resume_job(job_id: str) -> Call[TrainingJob]:
    """Queue it again; it goes on from its newest complete checkpoint."""
    return act(at(JOBS, job_id, "resume"), reader(TrainingJob))


def job_goodput(job_id: str) -> Call[Goodput]:
    """How much of its time went into new steps, and where the rest went."""
    return get(at(JOBS, job_id, "goodput"), reader(Goodput))


def job_metrics(job_id: str, *, name: str | None = None, limit: int | None = None) -> Call[Page[MetricPoint]]:
    """What it measured, by step."""
    return listing(at(JOBS, job_id, "metrics"), reader(MetricPoint), name=name, limit=limit)


def job_series(job_id: str) -> Call[Measured]:
    """Which series it has, with the newest value of each."""
    return get(at(JOBS, job_id, "metrics"), reader(Measured), limit=1)


def job_logs(
    job_id: str, *, rank: int | None = None, node: int | None = None, offset: int | None = None, follow: bool = False
) -> Call[None]:
    """What its processes printed: all of a node (the first, unless one is named), or one rank alone."""
    where = at(JOBS, job_id, "logs")
    return raw(where, patient=follow, rank=rank, node=node, offset=offset, follow=follow or None)


def is_resting(job: TrainingJob) -> bool:
    return job.resting
