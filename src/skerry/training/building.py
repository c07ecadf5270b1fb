"""The services of training, built from what is below them."""

from dataclasses import dataclass
from pathlib import Path

from skerry.artifacts.files.service import Files
from skerry.billing.service import Billing
from skerry.capacity.service import Capacity
from skerry.compute.service import Compute
from skerry.fleet.service import Fleet
from skerry.identity.service import Identity
from skerry.runtime.events import EventLog
from skerry.training.asking import Asking
from skerry.training.excluding import Excluding
from skerry.training.intake import Intake
from skerry.training.logs import JobLogs
from skerry.training.pricing import Pricing
from skerry.training.service import Isolation, Jobs


@dataclass(frozen=True, slots=True)
class Training:
    jobs: Jobs
    logs: JobLogs
    intake: Intake


def build_training(
    compute: Compute,
    events: EventLog,
    identity: Identity,
    billing: Billing,
    fleet: Fleet,
    capacity: Capacity,
    files: Files,
    isolation: Isolation,
    shared: Path | None,
) -> Training:
    """`shared`: what all nodes see; in `projects/ID` below it is what a project may run from."""
    db, clock = compute.db, compute.clock
    excluding = Excluding(clock, compute)
    jobs = Jobs(
        db,
        clock,
        events,
        compute,
        Asking(db, clock, fleet, capacity.reservations, files, identity, shared / "projects" if shared else None),
        Pricing(db, clock, billing),
        isolation,
        identity,
        excluding,
    )
    return Training(jobs, JobLogs(jobs, compute), Intake(jobs, excluding))
