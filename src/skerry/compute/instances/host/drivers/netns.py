"""Overlay, namespaces and limits, without a container engine. Not a boundary between tenants: root inside is root of
the node less most capabilities, there is no user namespace and no filter of system calls. For trusted projects."""

import os
from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from skerry.compute.instances.host.devices import DeviceNode
from skerry.compute.instances.host.drivers.isolated import Isolated
from skerry.compute.instances.host.plan import StagePlan
from skerry.compute.instances.host.spec import DriverName, InstanceSpec

CAPABILITIES: Final = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
    "NET_BIND_SERVICE": 10, "NET_RAW": 13, "SYS_CHROOT": 18, "AUDIT_WRITE": 29, "SETFCAP": 31,
}  # fmt: skip
"""What containers usually have, without MKNOD: no device but those in /dev."""


class NetnsDriver(Isolated):
    """See the module."""

    name: ClassVar = DriverName.NETNS
    bare: ClassVar = True

    def why_not(self, spec: InstanceSpec) -> str | None:
        if os.geteuid() != 0:
            return "the engine's agent on this node is not root"
        if not spec.trusted:
            return "the project is not trusted, and this driver is no boundary between tenants"
        return None

    def boundary(self, spec: InstanceSpec) -> bool:
        return False

    def finished(self, plan: StagePlan, spec: InstanceSpec, nodes: Sequence[DeviceNode]) -> StagePlan:
        groups = self.ground.groups.create(spec.id, spec.limits, nodes)
        return msgspec.structs.replace(plan, groups=groups, capabilities=sorted(CAPABILITIES.values()))
