"""The seam to what keeps an instance apart. All drivers pass one conformance suite."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Protocol

from skerry.compute.fabric.base import Fabric
from skerry.compute.instances.host.console import Console
from skerry.compute.instances.host.limits import Groups
from skerry.compute.instances.host.spec import DriverName, InstanceSpec

RECORD: Final = "node.json"
"""In an instance's folder: it is a whole node's, which is undone in another way."""


class CannotStart(RuntimeError):
    """The instance cannot be brought up here; the message is for its log. `final`: trying again changes nothing."""

    def __init__(self, words: str, *, final: bool = True) -> None:
        super().__init__(words)
        self.final = final


@dataclass(frozen=True, slots=True)
class Ground:
    """What of the node drivers use."""

    state: Path
    fabric: Fabric
    groups: Groups
    devices: tuple[int, ...] = ()
    """Indexes of the accelerators that were leased."""
    dev: Path = Path("/dev")

    def folder(self, name: str) -> Path:
        """Of one instance; there while it is up."""
        return self.state / "up" / name


class Running(Protocol):
    """An instance that is up: its SSH server has shown its banner."""

    console: Console
    ended: asyncio.Future[str]
    """Done, with a reason, when it has ended by itself."""

    @property
    def address(self) -> str:
        """Inside its partition, or of the node."""
        ...

    @property
    def port(self) -> int:
        """Where SSH is reachable on the node."""
        ...

    @property
    def user(self) -> str:
        """Who logs in."""
        ...

    @property
    def gateway(self) -> str:
        """Where the node's proxy is, as the instance sees it; empty: none."""
        ...

    @property
    def etc(self) -> Path:
        """On the node: what the instance sees as /etc/skerry, kept current while it runs."""
        ...

    def egress_bytes(self) -> int: ...

    async def say(self, words: str) -> None:
        """A line on every terminal inside."""
        ...

    async def down(self, words: str) -> None:
        """Tell, wait for the grace, end everything, and leave nothing behind. Again: no change."""
        ...


class Driver(Protocol):
    """One way of keeping instances apart."""

    name: ClassVar[DriverName]

    def why_not(self, spec: InstanceSpec) -> str | None:
        """Why this node cannot run this instance in this way; None: it can."""
        ...

    def boundary(self, spec: InstanceSpec) -> bool:
        """Whether it keeps tenants apart."""
        ...

    async def up(self, spec: InstanceSpec) -> Running:
        """Bring it up. Raises CannotStart, and then nothing of it is left."""
        ...

    def names(self) -> set[str]:
        """Instances of which this driver has something on the node, beside folders and control groups."""
        ...

    def clear(self, name: str) -> None:
        """Remove what a dead host program left of this instance; nothing there: no change."""
        ...
