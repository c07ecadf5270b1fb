"""What the stage (stage.py) is told to do: a list of mounts and files, and how the first process begins.

The outer part happens in the node's folders. The inner part happens with the instance's root folder as `/`, so that
links which an image or a tenant made lead nowhere else.
"""

from typing import Any, Final

import msgspec

READY: Final = b"N"
"""From the stage: it has its namespaces, the network may be attached."""
GO: Final = b"G"
"""To the stage: the network is there."""
STARTED: Final = b"P"
"""From the stage, then a pid and a newline: the first process of the instance, as the node numbers it."""


class Folder(msgspec.Struct, frozen=True, tag=True):
    """Made with its parents where it is missing. `owner` (user and group, as the node numbers them) None: left as
    is."""

    path: str
    mode: int = 0o755
    owner: tuple[int, int] | None = None


class Memory(msgspec.Struct, frozen=True, tag=True):
    """A tmpfs."""

    path: str
    bytes: int
    mode: int = 0o755
    owner: tuple[int, int] | None = None
    flags: int = 0
    mask: bool = False
    """Only over what is there."""


class Overlay(msgspec.Struct, frozen=True, tag=True):
    """`lower` stays as it is. `mapped`: its files appear as the instance's own users'."""

    lower: str
    upper: str
    work: str
    path: str
    mapped: bool = False


class Tree(msgspec.Struct, frozen=True, tag=True):
    """Something of the node (a folder or a file) under `path`, with the attributes of mount_setattr(2)."""

    source: str
    path: str
    attributes: int = 0
    mapped: bool = False
    file: bool = False


class Text(msgspec.Struct, frozen=True, tag=True):
    """A file's content; `append` puts it after what is there, unless it is there already."""

    path: str
    text: str
    mode: int = 0o644
    owner: tuple[int, int] | None = None
    append: bool = False


class Link(msgspec.Struct, frozen=True, tag=True):
    path: str
    target: str
    owner: tuple[int, int] | None = None


class Copy(msgspec.Struct, frozen=True, tag=True):
    """A file or folder of the node, copied if it is there; links stay links."""

    source: str
    path: str
    owner: tuple[int, int]


class System(msgspec.Struct, frozen=True, tag=True):
    """/proc, /sys or devpts."""

    kind: str
    path: str
    flags: int = 0
    data: str = ""


Outer = Folder | Memory | Overlay | Tree | Link | Copy
Inner = Folder | Memory | Tree | Text | Link | System


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """`config` is runc's: then runc begins the instance, else the stage itself does."""

    name: str
    hostname: str
    root: str
    outer: list[Outer]
    inner: list[Inner]
    command: list[str]
    env: list[str]
    """NAME=value."""
    need: str = ""
    """A program that must be in the root folder, on its PATH."""
    groups: list[str] = []
    """Folders of control groups that the first process enters."""
    capabilities: list[int] = []
    users: int | None = None
    """First of the 65,536 users of the node that the instance's users are; None: no user namespace."""
    whole_node: bool = False
    """The command runs in the node's own root folder and network; only the mounts are its own."""
    bundle: str = ""
    config: dict[str, Any] | None = None
    runc: str = ""


class StageFailure(RuntimeError):
    """The stage said why it could not."""
