"""`python -m skerry.compute.instances.host`: brings one instance up on this node, and down when told to.

With `--clear` it removes what dead host programs left here, prints their names, and ends.
"""

import asyncio
import os
import sys
from pathlib import Path

from skerry.compute.fabric.partitions import NamespaceFabric
from skerry.compute.instances.host import devices, leftovers, program
from skerry.compute.instances.host.drivers.base import Driver, Ground
from skerry.compute.instances.host.drivers.netns import NetnsDriver
from skerry.compute.instances.host.drivers.oci import OciDriver
from skerry.compute.instances.host.drivers.whole import WholeNodeDriver
from skerry.compute.instances.host.limits import Groups
from skerry.compute.instances.host.locks import Locks
from skerry.compute.instances.host.peers import TOKEN, PeerSource
from skerry.compute.instances.host.spec import EXIT_REFUSED, FILE, BadSpec, HostOptions, InstanceSpec, decode, member_of


def drivers_of(ground: Ground) -> list[Driver]:
    return [OciDriver(ground), NetnsDriver(ground), WholeNodeDriver(ground)]


def ground_of(spec: InstanceSpec) -> Ground:
    return Ground(
        state=Path(spec.options.state),
        fabric=NamespaceFabric(spec.options.subnet),
        groups=Groups.detect(),
        devices=devices.leased(os.environ.get("CUDA_VISIBLE_DEVICES")),
    )


async def run() -> int:
    files, report, url, rank = program.environment(os.environ)
    try:
        spec = member_of(decode((files / FILE).read_bytes()), rank)
        ground = ground_of(spec)
    except (BadSpec, OSError, devices.NoSuchDevice) as error:
        program.say(f"skerry: {error}")
        return EXIT_REFUSED
    source = PeerSource(url, files / TOKEN) if url else None
    host = program.Program(spec, ground, drivers_of(ground), report, source)
    program.on_signals(host.stop)
    return await host.run()


def clear(state: Path) -> int:
    ground = Ground(state=state, fabric=NamespaceFabric(), groups=Groups.detect())
    for name in leftovers.clear(state, Locks(), ground.groups, ground.fabric, drivers_of(ground)):
        program.say(name)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--clear"]:
        sys.exit(clear(Path(sys.argv[2] if len(sys.argv) > 2 else HostOptions().state)))
    sys.exit(asyncio.run(run()))
