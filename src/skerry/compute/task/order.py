"""What the task wrapper is to do, as a file of its own: everything that a customer gave travels in it, and nothing of
it in the wrapper's arguments or environment (an `LD_PRELOAD` there would run as root).

Standard library only: the wrapper starts once for every task.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

ORDER_FILE: Final = "task.json"
TOKEN_FILE: Final = "node-token"  # noqa: S105 - the name of a file
VERSION: Final = 1


class SandboxWish(StrEnum):
    """Whether the command is to run in a sandbox."""

    REQUIRED = "required"
    """Nothing is run where it cannot be had."""
    WANTED = "wanted"
    """Where it cannot be had, the project's Unix user has to do."""
    NONE = "none"


class BadOrder(ValueError):
    """It cannot be read: node and control plane are not of one version."""


@dataclass(frozen=True, slots=True)
class ProjectUser:
    """The Unix user of a project, the same number on all nodes."""

    name: str
    uid: int


@dataclass(frozen=True, slots=True)
class SourceOrder:
    """An archive to unpack as the working folder."""

    id: str
    filename: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class MountOrder:
    """`base` is a folder of the operator's on the node, `name` leads on from there, and no link on that way is
    followed: the project can write there. It is made where `make` says so. `target` is where tasks see it."""

    kind: str
    base: str
    name: str
    target: str
    read_only: bool = False
    make: bool = True
    exchanged: bool = False
    """Nodes do not share it: it is brought here before the start, and what becomes complete is sent away."""

    @property
    def path(self) -> str:
        return f"{self.base.rstrip('/')}/{self.name}"


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """`network`: the task uses that of its host,
    else it has a loopback of its own and the way to the control API. `hidden`: never to be seen, wherever they lie."""

    command: tuple[str, ...]
    api_url: str
    env: Mapping[str, str] = field(default_factory=dict)
    user: ProjectUser | None = None
    source: SourceOrder | None = None
    mounts: tuple[MountOrder, ...] = ()
    sandbox: SandboxWish = SandboxWish.REQUIRED
    network: bool = False
    hidden: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    """Folders of the node that it may read beside the system's and Python's."""
    grace_seconds: float = 10.0
    version: int = VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "TaskOrder":
        """Raises BadOrder."""
        try:
            found: dict[str, Any] = json.loads(text)
            version = found["version"]
            found["command"] = tuple(found["command"])
            found["hidden"], found["shown"] = tuple(found["hidden"]), tuple(found["shown"])
            found["sandbox"] = SandboxWish(found["sandbox"])
            found["user"] = ProjectUser(**found["user"]) if found["user"] else None
            found["source"] = SourceOrder(**found["source"]) if found["source"] else None
            found["mounts"] = tuple(MountOrder(**mount) for mount in found["mounts"])
            order = cls(**found)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadOrder(f"the order cannot be read: {error}") from error
        if version != VERSION:
            raise BadOrder(f"the order has version {version!r}, this Skerry reads {VERSION}")
        return order
