"""Whether what is asked for can ever be, with names resolved and defaults filled in. Each refusal names its field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Final

from skerry.artifacts.volumes.service import Volumes
from skerry.capacity.errors import UnknownReservation
from skerry.capacity.model import LIVE, Reservation, ReservationStatus
from skerry.capacity.service import Reservations
from skerry.compute.instances.errors import BadInstance, IsolationUnavailable, ReservationOver
from skerry.compute.instances.host.spec import BadSpec, DriverName, HostOptions, check_target
from skerry.compute.instances.model import InstanceKind, NewInstance, Plan, Share
from skerry.compute.model import ChargeBy
from skerry.db.database import Tx
from skerry.fleet.model import LeafOverview, Site, Sku
from skerry.fleet.service import Fleet
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.classes import CapacityClass
from skerry.kernel.errors import FieldError
from skerry.kernel.paging import MAX_LIMIT, PageRequest

SIZES: Final = (0, 1, 2, 4, 8)
"""Accelerators of an instance; a whole node of another size is fine too."""
_SMALL: Final = Share(2 * 1024**3, 1)
"""Of an instance without accelerators."""
_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """What the operator lets nodes do. `options.allowed`: drivers for trusted projects; of these the others may use
    those that are boundaries."""

    options: HostOptions
    images: Path | None = None

    def drivers(self, *, trusted: bool) -> list[DriverName]:
        return [one for one in self.options.allowed if trusted or one is not DriverName.NETNS]


class Checking:
    def __init__(
        self, identity: Identity, fleet: Fleet, volumes: Volumes, reservations: Reservations, policy: HostPolicy
    ) -> None:
        self.identity = identity
        self.fleet = fleet
        self.volumes = volumes
        self.reservations = reservations
        self.policy = policy

    async def check(self, principal: Principal, new: NewInstance) -> Plan:
        """Raises BadInstance, BadSshKey, BadVolume, UnknownReservation, ReservationOver, IsolationUnavailable."""
        skus = {one.name: one for one in (await self.fleet.skus(PageRequest(MAX_LIMIT))).data}
        sites = {one.name: one for one in (await self.fleet.sites(PageRequest(MAX_LIMIT))).data}
        leaves = await self.fleet.overview()
        async with self.volumes.db.reading() as tx:
            project = await self.identity.project(tx, principal.project_id)
            public = await self.identity.ssh_keys.resolve(tx, principal.project_id, new.ssh_keys, "ssh_keys")
            held = await self._reservation(tx, principal, new)
            sku = _sku(new, held, skus, leaves)
            site = await self._site(tx, principal, new, held, sku, leaves)
        self._check_isolation(trusted=project.trusted)
        self._check_image(new)
        _check_paths(new)
        accelerators = _accelerators(new, sku)
        _check_nodes(new, held, sku, site, leaves)
        return Plan(
            new=replace(new, nodes=new.nodes if new.kind is InstanceKind.CLUSTER else 1),
            sku=sku.name,
            site=site,
            accelerators=accelerators,
            capacity_class=_capacity_class(new, held),
            charge_by=(ChargeBy.RESERVATION if held is not None else ChargeBy.TIME).value,
            public_keys=tuple(one.line for one in public),
            share=_share(sku, accelerators),
            trusted=project.trusted,
            watts=_watts(sku, sites.get(site), accelerators, new.nodes),
            grams_per_kwh=_grams(sites.get(site)),
        )

    async def _reservation(self, tx: Tx, principal: Principal, new: NewInstance) -> Reservation | None:
        if new.reservation is None:
            if new.capacity_class is CapacityClass.RESERVED:
                words = "reserved capacity is that of a reservation: say which"
                raise bad("reservation_id", "missing", words, "`skerry reservations list` shows those there are.")
            return None
        if new.capacity_class not in (None, CapacityClass.RESERVED):
            words = f"inside a reservation the class is reserved, not {new.capacity_class}"
            raise bad("capacity_class", "not_reserved", words)
        try:
            held = await self.reservations.read(tx, principal.project_id, new.reservation)
        except UnknownReservation as error:
            field = FieldError("reservation_id", error.code, error.detail)
            raise UnknownReservation(error.detail, suggestion=error.suggestion, errors=[field]) from error
        if held.status not in LIVE or held.status is ReservationStatus.HELD:
            words = f"reservation {held.name} is {held.status}"
            raise ReservationOver(
                words,
                suggestion="Confirm it first." if held.status is ReservationStatus.HELD else "Use another one.",
                errors=[FieldError("reservation_id", "reservation_not_usable", words)],
            )
        return held

    async def _site(
        self,
        tx: Tx,
        principal: Principal,
        new: NewInstance,
        held: Reservation | None,
        sku: Sku,
        leaves: Sequence[LeafOverview],
    ) -> str:
        """One that is named, that of its volumes, that of its reservation, or the one with the most such nodes."""
        allowed, _ = await self.volumes.sites.allowed(tx, principal.project_id)
        named = await self.volumes.site(tx, principal.project_id, new.site) if new.site is not None else None
        for number, wanted in enumerate(new.volumes):
            volume = await self.volumes.store.find(tx, principal.project_id, wanted.ref)
            if volume is not None and named not in (None, volume.site):
                words = f"volume {volume.name} lies at {volume.site}, the machine is to be at {named}"
                raise bad(f"volumes.{number}", "wrong_site", words, "A volume can be used at its own site alone.")
            named = volume.site if volume is not None else named
        ready: dict[str, int] = {}
        for leaf in leaves:
            inside = held is None or leaf.leaf in {leg.leaf_name for leg in held.legs}
            if leaf.sku == sku.name and leaf.site in allowed.values() and inside:
                ready[leaf.site] = ready.get(leaf.site, 0) + leaf.size
        if named is not None and named not in ready:
            words = f"there are no nodes of SKU {sku.name} at {named}"
            raise bad("site" if new.site else "volumes", "no_such_nodes", words, _there_are("It is at", ready))
        if not ready:
            words = f"there are no nodes of SKU {sku.name} where this project's data may be"
            raise bad("sku", "outside_jurisdiction", words, "Take another SKU, or change the project's jurisdictions.")
        return named or max(sorted(ready), key=lambda site: ready[site])

    def _check_isolation(self, *, trusted: bool) -> None:
        if not self.policy.drivers(trusted=trusted):
            raise IsolationUnavailable(
                "this project is not trusted, and nodes here have nothing that keeps its programs apart from others'",
                suggestion="Operators can install runc on the nodes and set SKERRY_INSTANCE_DRIVERS, or trust the "
                "project: `skerry projects update NAME --trusted`.",
                retry_after=3600,
            )

    def _check_image(self, new: NewInstance) -> None:
        if new.image is None:
            return
        folder = self.policy.images
        if not self.policy.options.images:
            words = "there are no images here: instances have the programs of their node"
            raise bad("image", "no_images", words, "Leave it out, or ask the operator for SKERRY_INSTANCE_IMAGES.")
        if folder is not None and folder.is_dir() and not (folder / new.image).exists():
            known = sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))
            raise bad("image", "unknown_image", f"there is no image {new.image!r}", _there_are("There are", known))


def bad(path: str, code: str, words: str, suggestion: str = "") -> BadInstance:
    return BadInstance(f"{path}: {words}.", code=code, suggestion=suggestion, errors=[FieldError(path, code, words)])


def _sku(new: NewInstance, held: Reservation | None, skus: Mapping[str, Sku], leaves: Sequence[LeafOverview]) -> Sku:
    by_ref: dict[str, Sku] = {**skus, **{str(one.id): one for one in skus.values()}}
    there = sorted({leaf.sku for leaf in leaves if leaf.size})
    ref = new.sku or (held.sku if held is not None else None)
    if ref is None and len(there) == 1:
        ref = there[0]
    if ref is None:
        raise bad("sku", "missing", "say which SKU", _there_are("There are", there))
    if ref not in by_ref or by_ref[ref].name not in there:
        raise bad("sku", "unknown_sku", f"there is no SKU {ref[:100]!r} with nodes", _there_are("There are", there))
    sku = by_ref[ref]
    if held is not None and held.sku != sku.name:
        words = f"reservation {held.name} is of SKU {held.sku}, not {sku.name}"
        raise bad("sku", "other_sku", words, "Leave it out: it is the reservation's.")
    return sku


def _accelerators(new: NewInstance, sku: Sku) -> int:
    whole = sku.accelerators_per_node
    if new.accelerators is None:
        return whole if new.kind is InstanceKind.CLUSTER else min(1, whole)
    if new.kind is InstanceKind.CLUSTER and new.accelerators not in (0, whole):
        words = f"a cluster has whole nodes: {whole} accelerators each, or 0 to use none"
        raise bad("accelerators", "not_whole", words)
    if new.accelerators > whole:
        words = f"a node of SKU {sku.name} has {whole} accelerators; {new.accelerators} are wanted"
        raise bad("accelerators", "too_many_accelerators", words, f"Ask for {whole} or less, or for a cluster.")
    if new.accelerators not in (*SIZES, whole):
        shown = ", ".join(str(size) for size in SIZES if size < whole)
        raise bad("accelerators", "no_such_size", f"an instance has {shown} or {whole} accelerators")
    return new.accelerators


def _check_nodes(
    new: NewInstance, held: Reservation | None, sku: Sku, site: str, leaves: Sequence[LeafOverview]
) -> None:
    if new.kind is InstanceKind.INSTANCE:
        return
    if held is not None and new.nodes > held.most_nodes:
        words = f"reservation {held.name} has {held.most_nodes} nodes; {new.nodes} are wanted"
        raise bad("nodes", "scope_too_large", words, "Ask for fewer nodes, or extend the reservation.")
    sizes: dict[str, int] = {}
    for leaf in leaves:
        if leaf.sku == sku.name and leaf.site == site:
            near = {"leaf": leaf.leaf, "hall": leaf.hall}.get(new.scope, "") if new.scope_required else ""
            sizes[near] = sizes.get(near, 0) + leaf.size
    largest = max(sizes.values(), default=0)
    if new.nodes > largest:
        scope = new.scope if new.scope_required else "site"
        words = f"no {scope} at {site} has {new.nodes} nodes of SKU {sku.name}; the largest has {largest}"
        error = bad("nodes", "scope_too_large", words, f"Ask for {largest} or fewer.")
        error.extra["largest"] = largest
        raise error


def _capacity_class(new: NewInstance, held: Reservation | None) -> CapacityClass:
    return CapacityClass.RESERVED if held is not None else new.capacity_class or CapacityClass.ON_DEMAND


def _check_paths(new: NewInstance) -> None:
    for number, volume in enumerate(new.volumes):
        try:
            check_target(volume.target)
        except BadSpec as error:
            raise bad(f"volumes.{number}.target", "bad_target", str(error)) from error


def _share(sku: Sku, accelerators: int) -> Share:
    whole = sku.accelerators_per_node
    if not accelerators or not whole:
        return Share(min(_SMALL.memory_bytes, sku.memory), min(_SMALL.cpus, max(1, sku.cpu)))
    return Share(sku.memory * accelerators // whole, max(1, sku.cpu * accelerators // whole))


def _watts(sku: Sku, site: Site | None, accelerators: int, nodes: int) -> int:
    if not sku.tdp_w or not sku.accelerators_per_node:
        return 0
    pue = site.pue if site is not None and site.pue is not None else Decimal(1)
    return int(sku.tdp_w * nodes * accelerators * pue / sku.accelerators_per_node)


def _grams(site: Site | None) -> Decimal:
    return site.carbon.mean if site is not None and site.carbon is not None else Decimal(0)


def _there_are(words: str, names: Sequence[str] | Mapping[str, object]) -> str:
    return f"{words} {', '.join(sorted(names)[:_LISTED])}." if names else ""
