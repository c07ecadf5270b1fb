"""From a job to the workload that runs it. Pure."""

import sys
from dataclasses import dataclass
from typing import Final

from skerry.artifacts.files.model import File
from skerry.compute.model import ChargeBy, Mount, MountKind, WorkloadKind, WorkloadSpec
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import TrainingJobId
from skerry.training.model import NewJob
from skerry.training.spec import SPEC_FILE, SupervisorSpec, encode

COMMAND: Final[tuple[str, ...]] = (sys.executable, "-m", "skerry.training.supervisor")
CHECKPOINTS: Final = "/checkpoints"
GRACE_SECONDS: Final = 60.0
"""To write a checkpoint in, when a job is to stop. As long as the notice before spot capacity goes back."""
LOST_RESTARTS: Final = 5
"""New attempts in a row after losses that were our fault. What a job does wrong itself counts in its supervisor."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a job runs from: a file, a folder that the operator shares (absolute), or nothing."""

    file: File | None = None
    folder: str | None = None


def charge_by(job: NewJob) -> ChargeBy:
    return ChargeBy.RESERVATION if job.reservation_id is not None else ChargeBy.TIME


def workload_spec(id: TrainingJobId, job: NewJob, source: Source, secret: str) -> WorkloadSpec:
    """`job` is complete."""
    assert job.capacity_class is not None, "a class was chosen"
    mounts = [Mount(MountKind.CHECKPOINTS, id, job.checkpoint_dir or CHECKPOINTS)]
    command = COMMAND
    if source.folder is not None and job.source is not None:
        # Seen where it lies, with a sandbox or without one.
        mounts.append(Mount(MountKind.SHARED, job.source, source.folder))
        command = ("env", f"--chdir={source.folder}", *COMMAND)
    return WorkloadSpec(
        kind=WorkloadKind.JOB,
        name=job.name,
        resource=id,
        command=command,
        charge_by=charge_by(job),
        capacity_class=job.capacity_class,
        accelerators=job.accelerators,
        tasks=job.nodes,
        nodes=job.nodes,
        customer_code=True,
        source=source.file.id if source.file is not None else None,
        mounts=tuple(mounts),
        max_cost=job.max_cost,
        files={SPEC_FILE: encode(_supervised(id, job, secret))},
        max_restarts=LOST_RESTARTS,
        grace_seconds=GRACE_SECONDS,
        sku=job.sku,
        reservation=job.reservation_id if job.capacity_class is CapacityClass.RESERVED else None,
        max_duration_seconds=job.max_duration_seconds,
    )


def _supervised(id: TrainingJobId, job: NewJob, secret: str) -> SupervisorSpec:
    return SupervisorSpec(
        job=id,
        command=job.command,
        secret=secret,
        launcher=job.launcher,
        tasks_per_node=job.tasks_per_node,
        accelerators_per_task=job.accelerators_per_task,
        max_restarts=job.max_restarts,
        env=dict(job.env),
        grace_seconds=GRACE_SECONDS,
    )
