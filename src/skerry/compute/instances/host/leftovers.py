"""What host programs that were killed have left on this node, found by name and removed.

Most goes with their processes. What can stay: folders, empty control groups, members of partitions, Unix users of the
`node` driver. Whatever has an instance's name whose lock nobody holds is a leftover.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from skerry.compute.fabric.base import Fabric
from skerry.compute.instances.host.drivers.base import Driver
from skerry.compute.instances.host.limits import Groups
from skerry.compute.instances.host.locks import Locks


def clear(
    state: Path,
    locks: Locks,
    groups: Groups,
    fabric: Fabric,
    drivers: Sequence[Driver],
    own: str = "",
    lives: Callable[[str], bool] | None = None,
) -> list[str]:
    """Remove all leftovers; their names. `own` is the caller's, who has its lock. `lives` may know better than the
    locks what is not wanted any more."""
    found = {*_folders(state / "up"), *groups.names(), *(name for driver in drivers for name in driver.names())} - {own}
    for driver in drivers if own else ():
        driver.clear(own)
    removed = []
    for name in sorted(found):
        if lives is not None and lives(name):
            continue
        with locks.if_free(name) as free:
            if free:
                for driver in drivers:
                    driver.clear(name)
                removed.append(name)
    removed += fabric.keep(lambda name: name == own or locks.held(name))
    return sorted(set(removed))


def _folders(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
