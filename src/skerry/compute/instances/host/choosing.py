"""Which driver an instance gets."""

from collections.abc import Sequence
from typing import Final

from skerry.compute.instances.host.drivers.base import CannotStart, Driver
from skerry.compute.instances.host.spec import DriverName, InstanceSpec

STRONGEST_FIRST: Final = (DriverName.OCI, DriverName.NETNS)
"""What `auto` tries. A whole node is given only to who asked for it, or where the operator allows nothing else."""


def choose(spec: InstanceSpec, drivers: Sequence[Driver]) -> Driver:
    """Raises CannotStart, with what each driver lacks."""
    allowed = spec.options.allowed
    wanted: Sequence[DriverName] = [spec.driver]
    if spec.driver is DriverName.AUTO:
        wanted = [name for name in STRONGEST_FIRST if name in allowed] or list(allowed)
    by_name = {driver.name: driver for driver in drivers}
    reasons = []
    for name in wanted:
        reason = _why_not(name, spec, by_name)
        if reason is None:
            return by_name[name]
        reasons.append(f"{name}: {reason}")
    raise CannotStart(
        f"isolation_unavailable: no driver fits this instance on this node ({'; '.join(reasons) or 'none is allowed'})"
    )


def _why_not(name: DriverName, spec: InstanceSpec, drivers: dict[DriverName, Driver]) -> str | None:
    if name not in spec.options.allowed:
        return "the operator does not allow it for this project"
    driver = drivers.get(name)
    if driver is None:
        return "unknown"
    reason = driver.why_not(spec)
    if reason is None and not spec.trusted and not driver.boundary(spec):
        return "it is no boundary between tenants here, and the project is not trusted"
    return reason
