"""Whether a job that is asked for can be run at all, before anything of it is made."""

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, Protocol

from skerry.artifacts.files.model import File
from skerry.artifacts.sources import SOURCE
from skerry.capacity.model import Reservation, ReservationStatus
from skerry.capacity.rules.places import sites_within
from skerry.db.database import Database, Tx
from skerry.fleet.model import LeafOverview, NodeStatus, Sku
from skerry.identity.model import Principal, Project
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Conflict
from skerry.kernel.ids import ProjectId
from skerry.kernel.money import parse_amount
from skerry.training.errors import bad
from skerry.training.making import Source
from skerry.training.model import NewJob
from skerry.training.rules.commands import BadCommand, parse

NODES_MAX: Final = 10_000
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS: Final = frozenset(
    f"{of}{what}" for of in ("", "LOCAL_", "GROUP_", "ROLE_") for what in ("RANK", "WORLD_SIZE")
) | {"MASTER_ADDR", "MASTER_PORT"}
_USABLE: Final = frozenset(
    {
        ReservationStatus.CONFIRMED,
        ReservationStatus.DELIVERING,
        ReservationStatus.LATE,
        ReservationStatus.ACTIVE,
    }
)


class Machines(Protocol):
    """What is needed of the fleet."""

    async def overview(self) -> list[LeafOverview]: ...

    async def sku(self, ref: str) -> Sku: ...


class Reserved(Protocol):
    """What is needed of capacity (`Reservations`)."""

    async def get(self, project: ProjectId, id: str) -> Reservation: ...


class Sources(Protocol):
    """What is needed of files (artifacts)."""

    async def get(self, principal: Principal, id: str) -> File: ...


class Projects(Protocol):
    """What is needed of identity."""

    async def project(self, tx: Tx, project: ProjectId) -> Project: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A job that can be run: complete, with the file it runs from, where it runs from one."""

    job: NewJob
    source: Source
    sku: Sku


class Asking:
    """`shared`: below it each project has a folder of its own, named by its id; None: there are none."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        machines: Machines,
        reserved: Reserved,
        sources: Sources,
        projects: Projects,
        shared: Path | None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._machines = machines
        self._reserved = reserved
        self._sources = sources
        self._projects = projects
        self._shared = shared

    async def complete(self, principal: Principal, new: NewJob) -> Asked:
        """Raises BadJob, UnknownReservation, UnknownFile, NotNow; each names the field."""
        _check_words(new)
        reservation = None
        if new.reservation_id is not None:
            reservation = await self._reserved.get(principal.project_id, new.reservation_id)
        new = _with_class(new, reservation)
        leaves = await self._machines.overview()
        sku = await self._machines.sku(_sku_name(new, reservation, leaves))
        new = replace(new, sku=sku.name)
        _check_size(new, sku, reservation, leaves, self._clock.now())
        async with self._db.reading() as tx:
            project = await self._projects.project(tx, principal.project_id)
        _check_places(sku.name, leaves, project.jurisdictions)
        new, source = await self._with_source(principal, new)
        return Asked(new, source, sku)

    async def _with_source(self, principal: Principal, new: NewJob) -> tuple[NewJob, Source]:
        if new.source is None:
            return new, Source()
        if not new.source.startswith("file-"):
            folder = await asyncio.to_thread(shared_folder, self._shared, principal.project_id, new.source)
            return replace(new, source=folder.path), Source(folder=folder.absolute)
        file = await self._sources.get(principal, new.source)
        if file.purpose != SOURCE:
            words = f"{file.id} is a file of purpose {file.purpose}, and a job runs from one of purpose {SOURCE}"
            raise bad("source", "wrong_purpose", words, "Upload the folder as a .tar.gz with purpose=source.")
        return new, Source(file)


class Folder(NamedTuple):
    """`path` is relative to the project's own."""

    path: str
    absolute: str


def shared_folder(shared: Path | None, project: ProjectId, wanted: str) -> Folder:
    """The folder that `wanted` names, after all links. Raises BadJob.

    A path may be relative to the project's folder, or absolute and inside it.
    """
    if shared is None:
        words = "this installation shares no folders with projects, so a source can only be an uploaded file"
        raise bad("source", "no_shared_folder", words, "Upload the folder as a .tar.gz with purpose=source.")
    own = shared / project
    missing = bad(
        "source",
        "unknown_source",
        f"there is no folder {wanted!r} below what the operator shares with this project",
        "Give a path below the project's shared folder, or the id of a file of purpose source.",
    )
    if "\0" in wanted:
        raise missing
    try:
        root = own.resolve(strict=True)
        found = (own / wanted).resolve(strict=True)
    except (OSError, RuntimeError):
        raise missing from None
    if not found.is_relative_to(root) or found == root or not found.is_dir():
        raise missing
    path = found.relative_to(root)
    return Folder(path.as_posix(), str(own / path))


def _check_words(new: NewJob) -> None:
    """What can be said without looking anything up."""
    try:
        parse(new.command, new.launcher, nodes=new.nodes, tasks_per_node=new.tasks_per_node)
    except BadCommand as error:
        raise bad(error.field, error.code, error.message) from None
    for name, value in new.env.items():
        if not _VARIABLE.fullmatch(name):
            words = f"env.{name[:60]}: a variable's name has letters, digits and underscores, and begins with no digit"
            raise bad(f"env.{name[:60]}", "bad_name", words)
        if name.startswith("SKERRY_") or name in _OURS:
            raise bad(f"env.{name}", "reserved_name", f"env.{name} is set by Skerry itself", "Choose another name.")
        if "\0" in value:
            raise bad(f"env.{name}", "unstorable_text", f"env.{name} has a NUL character")
    if any("\0" in word for word in new.command):
        raise bad("command", "unstorable_text", "the command has a NUL character")
    if new.max_cost is not None:
        _check_cost(new.max_cost)
    if new.checkpoint_dir is not None:
        _check_folder(new.checkpoint_dir)


def _check_cost(text: str) -> None:
    try:
        fits = parse_amount(text) > Decimal(0)
    except ValueError:
        fits = False
    if not fits:
        words = f"max_cost is an amount greater than 0, such as 25.00, not {text[:40]!r}"
        raise bad("max_cost", "invalid_value", words)


def _check_folder(text: str) -> None:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or "\0" in text or str(path) != text:
        words = f"checkpoint_dir is an absolute path such as /checkpoints, without dots in it, not {text[:100]!r}"
        raise bad("checkpoint_dir", "bad_path", words)
    if path.parts[1] in ("proc", "sys", "dev", "etc", "usr", "bin", "sbin", "lib", "lib64", "boot"):
        raise bad(
            "checkpoint_dir", "bad_path", f"/{path.parts[1]} belongs to the system: choose another checkpoint_dir"
        )


def _with_class(new: NewJob, reservation: Reservation | None) -> NewJob:
    wanted = new.capacity_class
    if reservation is None:
        if wanted is CapacityClass.RESERVED:
            words = "reserved capacity is that of a reservation: name it in reservation_id"
            raise bad("reservation_id", "missing", words, "`skerry reservations list` shows them.")
        return replace(new, capacity_class=wanted or CapacityClass.ON_DEMAND)
    if wanted not in (None, CapacityClass.RESERVED):
        words = f"a job in a reservation has capacity_class reserved, not {wanted}"
        raise bad("capacity_class", "class_differs", words, "Leave one of the two out.")
    return replace(new, capacity_class=CapacityClass.RESERVED, reservation_id=reservation.id)


def _sku_name(new: NewJob, reservation: Reservation | None, leaves: Sequence[LeafOverview]) -> str:
    known = sorted({leaf.sku for leaf in leaves if _nodes(leaf)})
    if reservation is not None:
        if new.sku not in (None, reservation.sku):
            words = f"the reservation is of {reservation.sku}, not of {new.sku[:100] if new.sku else ''}"
            raise bad("sku", "sku_differs", words, "Leave sku out: it is the reservation's.")
        return reservation.sku
    if new.sku is not None:
        if new.sku not in known and not new.sku.startswith("sku_"):
            words = f"there is no SKU {new.sku[:100]!r}; there are {', '.join(known[:10]) or 'none'}"
            raise bad("sku", "unknown_sku", words)
        return new.sku
    if not known:
        raise Conflict(
            "the fleet has no nodes yet", code="no_nodes", suggestion="The operator adds them: `skerry fleet apply`."
        )
    if len(known) > 1:
        raise bad("sku", "missing", f"there are several SKUs, so name one: {', '.join(known[:10])}")
    return known[0]


def _check_size(
    new: NewJob, sku: Sku, reservation: Reservation | None, leaves: Sequence[LeafOverview], now: datetime
) -> None:
    have = sku.accelerators_per_node
    if new.accelerators_per_node > have:
        path = "accelerators_per_task" if new.accelerators_per_task > have else "tasks_per_node"
        words = (
            f"{new.tasks_per_node} tasks a node with {new.accelerators_per_task} accelerators each need "
            f"{new.accelerators_per_node}, and a node of {sku.name} has {have}"
        )
        raise bad(path, "too_many_accelerators", words, "Spread the job over more nodes.")
    if reservation is not None:
        _check_reservation(new, reservation, now)
        return
    there = sum(_nodes(leaf) for leaf in leaves if leaf.sku == sku.name)
    if new.nodes > there:
        words = f"{new.nodes} nodes of {sku.name} are asked for, and there are {there}"
        raise bad("nodes", "too_many_nodes", words)


def _check_reservation(new: NewJob, reservation: Reservation, now: datetime) -> None:
    if reservation.status not in _USABLE:
        words = f"reservation {reservation.name or reservation.id} is {reservation.status}"
        first = "Confirm it first." if reservation.status is ReservationStatus.HELD else "Name one that is to come."
        raise bad("reservation_id", "reservation_not_usable", words, first)
    if new.nodes > reservation.most_nodes:
        words = f"{new.nodes} nodes are asked for, and the reservation has {reservation.most_nodes}"
        raise bad("nodes", "too_many_nodes", words)
    if reservation.end <= now:
        raise bad("reservation_id", "reservation_not_usable", "the reservation's time is over")


def _check_places(sku: str, leaves: Sequence[LeafOverview], jurisdictions: Collection[str]) -> None:
    countries: Mapping[str, str | None] = {leaf.site: leaf.country for leaf in leaves if leaf.sku == sku}
    if countries and not sites_within(countries, jurisdictions):
        words = (
            f"{sku} is in {', '.join(sorted(countries))}, and this project's data stays in "
            f"{', '.join(sorted(jurisdictions))}"
        )
        raise bad("sku", "outside_jurisdiction", words, "Choose another SKU, or change the project's jurisdictions.")


def _nodes(leaf: LeafOverview) -> int:
    return sum(count for status, count in leaf.statuses.items() if status != NodeStatus.RETIRED)
