"""Values of a fleet file: what it says, what is wrong with it, and what applying it would change."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from skerry.fleet.model import Endangered


class Section(StrEnum):
    """Parts of a fleet file, in the order in which they are made; they are removed in the reverse one."""

    SKUS = "skus"
    SITES = "sites"
    HALLS = "halls"
    LEAVES = "leaves"
    DELIVERIES = "deliveries"
    NODES = "nodes"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong in the file. `path` is as in `nodes[3].sku`; lines count from 1."""

    line: int
    path: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing of the file: the fields it gives, in the values of the domain. Fields that are not given stay."""

    section: Section
    name: str
    path: str
    line: int
    fields: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def line_of(self, name: str) -> int:
        return self.lines.get(name, self.line)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole file, by section and name. Nodes and maintenance have keys of their own: hostname, and what it is."""

    entries: Mapping[Section, Mapping[str, Entry]]

    def of(self, section: Section) -> Mapping[str, Entry]:
        return self.entries.get(section, {})


@dataclass(frozen=True, slots=True)
class Present:
    """What there is, in the same form: fields by section and name. `local` is what discovery made, by section."""

    things: Mapping[Section, Mapping[str, Mapping[str, Any]]]
    local: Mapping[Section, frozenset[str]]

    def of(self, section: Section) -> Mapping[str, Mapping[str, Any]]:
        return self.things.get(section, {})


class Action(StrEnum):
    """What applying a file does to a thing."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that would be added, changed or removed. `fields`: before and after, by name; for removals empty."""

    action: Action
    section: Section
    name: str
    fields: Mapping[str, tuple[Any, Any]]
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Differences that are alike, as people read them: `no-a-1-[01-32]` is one change of 32 nodes."""

    action: Action
    section: Section
    name: str
    count: int
    fields: Mapping[str, tuple[Any, Any]]
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a file changes, or has changed.

    `refused`: why it cannot be applied. `late`: whom a delivery that slips makes late. `warnings`: what is allowed and
    may still be a mistake.
    """

    changes: tuple[Change, ...]
    refused: tuple[str, ...] = ()
    late: tuple[Endangered, ...] = ()
    warnings: tuple[str, ...] = ()
    applied: bool = False

    def counts(self) -> dict[Action, int]:
        return {action: sum(one.count for one in self.changes if one.action is action) for action in Action}
