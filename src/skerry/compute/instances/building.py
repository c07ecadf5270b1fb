"""The services of instances, clusters and volumes, built from what is below them."""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from skerry.artifacts.volumes.model import VolumeLimits
from skerry.artifacts.volumes.service import Volumes
from skerry.billing.service import Billing
from skerry.capacity.rules.places import sites_within
from skerry.capacity.service import Capacity
from skerry.compute.instances.checking import Checking, HostPolicy
from skerry.compute.instances.host.spec import DriverName, HostOptions
from skerry.compute.instances.pricing import Pricing
from skerry.compute.instances.service import Instances
from skerry.compute.instances.wiping import WorkloadWiper
from skerry.compute.service import Compute
from skerry.db.database import Tx
from skerry.fleet.service import Fleet
from skerry.identity.service import Identity
from skerry.kernel.ids import ProjectId
from skerry.kernel.paging import MAX_LIMIT, PageRequest
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Machines:
    volumes: Volumes
    instances: Instances
    wiper: WorkloadWiper


class FleetSites:
    """The fleet's sites, as volumes need them: the two domains may not know each other."""

    def __init__(self, fleet: Fleet, identity: Identity) -> None:
        self._fleet = fleet
        self._identity = identity

    async def allowed(self, tx: Tx, project: ProjectId) -> tuple[Mapping[str, str], Collection[str]]:
        sites = (await self._fleet.sites(PageRequest(MAX_LIMIT))).data
        jurisdictions = (await self._identity.project(tx, project)).jurisdictions
        within = sites_within({one.name: one.country for one in sites}, jurisdictions)
        refs = {ref: one.name for one in sites for ref in (one.name, one.id)}
        return {ref: name for ref, name in refs.items() if name in within}, frozenset(refs)


def build_machines(
    settings: Settings,
    compute: Compute,
    events: EventLog,
    identity: Identity,
    metering: Metering,
    billing: Billing,
    fleet: Fleet,
    capacity: Capacity,
) -> Machines:
    db, clock = compute.db, compute.clock
    volumes = Volumes(
        db,
        clock,
        events,
        identity,
        metering,
        FleetSites(fleet, identity),
        settings.volumes,
        VolumeLimits(settings.volumes_quota_bytes, settings.volumes_quota_count),
    )
    checking = Checking(identity, fleet, volumes, capacity.reservations, policy_of(settings))
    pricing = Pricing(db, clock, billing)
    instances = Instances(db, clock, events, identity, compute, capacity, volumes, checking, pricing)
    return Machines(volumes, instances, WorkloadWiper(compute, volumes))


def policy_of(settings: Settings) -> HostPolicy:
    """What nodes are told about instances, from the operator's settings."""
    options = HostOptions(
        allowed=[DriverName(name) for name in settings.instance_drivers.split(",")],
        listen=settings.instance_listen,
        address=settings.instance_address,
        ports=settings.instance_port_range,
        base=str(settings.instance_base),
        expose=_python_folders(),
        images=str(settings.instance_images or ""),
        scratch=str(settings.instance_scratch or ""),
    )
    return HostPolicy(options, settings.instance_images)


def _python_folders() -> list[str]:
    """The Python environment that customers' programs run in, where it is not the system's."""
    folders = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    return sorted(str(folder) for folder in folders if folder != Path("/usr"))
