"""The seam to the network between instances: who is in which partition, and how much leaves it.

A partition is a project's own network. Members of one reach each other by their addresses; members of different ones
never do, whatever they set on their interfaces.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class FabricError(RuntimeError):
    """The network could not be brought to what was asked; the message says what was tried and what was answered."""


class PartitionFull(FabricError):
    """The partition has no address, or the fabric no partition, left."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """The way out of the partition: a link of its own to the node, which carries nothing else."""

    interface: str
    """At the node's end."""
    inside: str
    """Address of the member's end."""
    gateway: str
    """Address of the node's end: where its forwards and proxy are."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One member's place. `interface` as the member sees it, `address` with its prefix length, MTU in bytes."""

    partition: str
    member: str
    interface: str
    address: str
    mtu: int
    uplink: Uplink | None = None
    namespace: str = ""
    """Name of the partition's own network namespace on this node, where it has one."""

    @property
    def ip(self) -> str:
        return self.address.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Member:
    """Who is in a partition on this node."""

    name: str
    address: str


class Fabric(Protocol):
    """All implementations pass one contract (tests/compute/fabric). Calls may be repeated, and block for
    milliseconds."""

    def attach(self, partition: str, member: str, pid: int | None = None) -> Attachment:
        """Put a member into a partition, made where it is missing; again: the same answer.

        `pid` names a process in whose network namespace the interface is to appear; None: on the node itself.
        Raises FabricError, and then nothing of the member is left.
        """
        ...

    def detach(self, partition: str, member: str) -> None:
        """Take it out. The last one takes the partition along. Not there: no change."""
        ...

    def members(self, partition: str) -> Sequence[Member]: ...

    def egress_bytes(self, attachment: Attachment) -> int:
        """Bytes that this member has sent out of its partition since it was attached, headers included."""
        ...

    def keep(self, lives: Callable[[str], bool]) -> Sequence[str]:
        """Detach every member of this node that does not live; their names."""
        ...
