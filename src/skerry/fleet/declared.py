"""The fleet as a file declares it: what that would change, and changing it, all at once or not at all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, Final

from skerry.db.database import Tx
from skerry.fleet.basis import Basis, newly
from skerry.fleet.errors import BadFleetFile, SoldOrBound, wire
from skerry.fleet.file.diff import check, complete, differences, gathered, moved
from skerry.fleet.file.model import Action, Change, Difference, Document, Plan, Present, Section
from skerry.fleet.file.parse import parse
from skerry.fleet.file.schema import ONE
from skerry.fleet.model import Endangered
from skerry.fleet.store.declared import DeclaredStore
from skerry.kernel.ids import LeafId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import Event

TIMELINE: Final = "fleet"
"""The resource whose timeline tells of files that were applied."""

_PREFIXES: Final[Mapping[Section, str]] = {
    Section.SKUS: "sku",
    Section.SITES: "site",
    Section.HALLS: "hall",
    Section.LEAVES: "leaf",
    Section.DELIVERIES: "dlv",
    Section.NODES: "node",
    Section.MAINTENANCE: "mnt",
}
_SLIPS: Final = frozenset({"service_at", "confidence"})
"""Fields of a delivery that are facts: said, not asked, whomever they make late."""


class _Undo(Exception):
    """Ends the transaction of a plan: it has seen what would be."""


class Declaration:
    """Planning is applying, and then taking it back: the two cannot say different things."""

    def __init__(self, basis: Basis) -> None:
        self._basis = basis
        self._store = DeclaredStore()

    async def plan(self, text: str, *, prune: bool = False) -> Plan:
        """What applying the file would change, and why it could not be. Raises BadFleetFile."""
        made: Plan | None = None
        try:
            async with self._basis.db.transaction() as tx:
                made = await self._make(tx, text, prune)
                raise _Undo
        except _Undo:
            assert made is not None
            return made

    async def apply(self, text: str, *, prune: bool = False) -> Plan:
        """Change the fleet to what the file says, in one transaction. Doing it again changes nothing.

        Raises BadFleetFile, and SoldOrBound where it would take away what is sold or in use.
        """
        async with self._basis.db.transaction() as tx:
            plan = await self._make(tx, text, prune)
            if plan.refused:
                raise SoldOrBound(plan.refused)
            if plan.changes:
                await self._basis.record(tx, TIMELINE, TIMELINE, "applied", _told(plan))
            return replace(plan, applied=True)

    async def events(self, request: PageRequest) -> Page[Event]:
        """Which files were applied, oldest first."""
        async with self._basis.db.reading() as tx:
            return await self._basis.events.list(tx, await self._basis.platform(tx), TIMELINE, request)

    async def _make(self, tx: Tx, text: str, prune: bool) -> Plan:
        document, mistakes = parse(text, self._basis.clock)
        if mistakes and not document.entries:
            raise BadFleetFile(mistakes)
        await self._store.lock(tx)
        present = await self._store.present(tx, self._basis.clock.now())
        mistakes = sorted([*mistakes, *check(document, present)], key=lambda one: one.line)
        if mistakes:
            raise BadFleetFile(mistakes)
        wanted = differences(document, present, prune=prune)
        late, refused = await self._write(tx, wanted, present) if wanted else ([], [])
        return Plan(
            changes=tuple(gathered(wanted)),
            refused=tuple(refused),
            late=tuple(late),
            warnings=tuple(await self._warnings(tx, document)),
        )

    async def _write(
        self, tx: Tx, wanted: Sequence[Difference], present: Present
    ) -> tuple[list[Endangered], list[str]]:
        """Whom slips make late, and why the rest cannot be."""
        touched = await self._touched(tx, wanted, present)
        refused = [
            f"{host} is {words}" if words else f"{host} is in use" for host, words in await self._held(tx, wanted)
        ]
        takes = any(_takes(one) for one in wanted)
        before = await self._basis.supplies(tx, touched) if takes else []
        at_risk = await self._basis.sold.made_late(tx, before) if takes else []
        slips = [one for one in wanted if one.section is Section.DELIVERIES and one.action is Action.CHANGE]
        for one in slips:
            fields = {name: after for name, (_, after) in one.fields.items() if name in _SLIPS}
            await self._store.change(tx, one.section, one.name, fields, self._basis.clock.now())
        slipped = await self._basis.supplies(tx, touched) if slips else before
        late = newly(at_risk, await self._basis.sold.made_late(tx, slipped)) if slips else []
        await self._basis.sold.tell(tx, late)
        known = set(await self._basis.sold.why_not(tx, slipped)) if takes else set()
        await self._write_all(tx, wanted)
        touched |= await self._touched(tx, wanted, present)
        if takes:
            why = await self._basis.sold.why_not(tx, await self._basis.supplies_after(tx, touched, before))
            refused += [sentence for sentence in why if sentence not in known]
        await self._basis.supply.changed(tx, touched)
        return late, refused

    async def _write_all(self, tx: Tx, wanted: Sequence[Difference]) -> None:
        now, store = self._basis.clock.now(), self._store
        for (section, action), group in groupby(wanted, key=lambda one: (one.section, one.action)):
            some = list(group)
            if action is Action.REMOVE:
                await store.remove(tx, section, [one.name for one in some])
            elif action is Action.CHANGE and section is Section.NODES:
                for fields, hosts in _alike(some):
                    await store.change_nodes(tx, hosts, fields, now)
            elif action is Action.CHANGE:
                for one in some:
                    await store.change(tx, section, one.name, _after(one), now)
            else:
                rows = [(one.name, complete(one)) for one in some]
                await store.add(tx, section, rows, now, partial(self._basis.new_id, _PREFIXES[section]))

    async def _held(self, tx: Tx, wanted: Sequence[Difference]) -> list[tuple[str, str]]:
        """Hosts that would go although they are bound to something, with what to."""
        going = moved(wanted)
        if not going:
            return []
        hosts = await self._store.node_ids(tx, going)
        held = await self._basis.sold.held_nodes(tx, list(hosts))
        return sorted((hosts[node], words) for node, words in held.items())

    async def _touched(self, tx: Tx, wanted: Sequence[Difference], present: Present) -> set[LeafId]:
        """Leaves whose supply, or whose place, the differences change."""
        names: set[str] = set()
        skus: set[str] = set()
        sites: set[str] = set()
        for one in wanted:
            before = present.of(one.section).get(one.name, {})
            match one.section:
                case Section.LEAVES:
                    names.add(one.name)
                case Section.NODES | Section.MAINTENANCE:
                    names |= {before.get("leaf", ""), *_both(one, "leaf")}
                case Section.DELIVERIES:
                    names |= set(before.get("leaves", ()))
                    for leaves in _both(one, "leaves"):
                        names |= set(leaves)
                case Section.HALLS:
                    names |= {name for name, leaf in present.of(Section.LEAVES).items() if leaf["hall"] == one.name}
                case Section.SKUS:
                    skus.add(one.name)
                case Section.SITES:
                    sites.add(one.name)
        found = await self._store.leaf_ids(tx, names - {""}) if names - {""} else set()
        found |= await self._store.leaves_with(tx, skus) if skus else set()
        return found | (await self._store.leaves_of_sites(tx, sites) if sites else set())

    async def _warnings(self, tx: Tx, document: Document) -> list[str]:
        now = self._basis.clock.now()
        warnings = [
            f"line {entry.line_of('service_at')}: {name} is overdue: it counts for nothing until it has a new date"
            for name, entry in document.of(Section.DELIVERIES).items()
            if entry.fields["service_at"] <= now
            and not any(dates.reached for key, dates in entry.fields.get("milestones", {}).items() if key == "accepted")
        ]
        for site, draw, cap in await self._store.over_cap(tx):
            warnings.append(f"{site} has {cap} kW, and its nodes may draw {draw} kW, PUE included")
        return warnings


def _takes(one: Difference) -> bool:
    """Whether it may take something away from somebody."""
    if one.action is Action.REMOVE or one.section is Section.MAINTENANCE:
        return True
    if one.section is Section.SKUS:
        return "on_demand_nodes" in one.fields  # reservations cannot buy what is in the pool
    return one.action is Action.CHANGE and one.section in (Section.NODES, Section.LEAVES, Section.DELIVERIES)


def _after(one: Difference) -> dict[str, Any]:
    return {name: after for name, (_, after) in one.fields.items()}


def _both(one: Difference, field: str) -> list[Any]:
    return [value for value in one.fields.get(field, ()) if value is not None]


def _alike(some: Iterable[Difference]) -> list[tuple[dict[str, Any], list[str]]]:
    """Nodes by what they become."""
    groups: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for one in some:
        fields = _after(one)
        groups.setdefault(repr(sorted(fields.items())), (fields, []))[1].append(one.name)
    return list(groups.values())


def _told(plan: Plan) -> dict[str, Any]:
    """What the timeline says of it."""
    return {
        "counts": {action.value: count for action, count in plan.counts().items()},
        "changes": [_line(change) for change in plan.changes[:100]],
        "makes_late": [wire(one) for one in plan.late],
    }


def _line(change: Change) -> str:
    fields = ", ".join(change.fields) if change.action is Action.CHANGE else ""
    return f"{change.action} {ONE[change.section]} {change.name}{f': {fields}' if fields else ''}"
