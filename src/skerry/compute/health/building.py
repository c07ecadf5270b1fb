"""Health as the settings say."""

import shlex
from datetime import timedelta

from skerry.compute.health.model import Policy
from skerry.compute.health.service import Health, HealthPolicy
from skerry.compute.service import Compute
from skerry.fleet.service import Fleet
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock
from skerry.runtime.events import EventLog
from skerry.runtime.settings import Settings


def build_health(
    settings: Settings, compute: Compute, fleet: Fleet, events: EventLog, identity: Identity, clock: Clock
) -> Health:
    policy = HealthPolicy(
        decides=Policy(settings.remediation),
        command=tuple(shlex.split(settings.remediation_command)),
        every=timedelta(hours=settings.burn_in_hours) if settings.burn_in_hours else None,
        burn_in_seconds=settings.burn_in_seconds,
        least_mbit=settings.bandwidth_mbit,
    )
    return Health(compute, fleet, events, identity.platform, clock, policy)
