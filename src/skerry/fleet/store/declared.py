"""The fleet as a file sees it: read whole, written in bulk."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Table, delete, func, insert, select, text, update

from skerry.db.database import Tx
from skerry.fleet import tables as t
from skerry.fleet.file.model import Present, Section
from skerry.fleet.file.parse import maintenance_key
from skerry.fleet.model import LOCAL, Accelerator
from skerry.fleet.store.deliveries import milestones_from, milestones_to
from skerry.kernel.ids import LeafId, NodeId
from skerry.kernel.money import Money
from skerry.runtime.state import Reason

APPLYING: Final = 0x5_EE_F1_EE
"""The lock of whoever applies a file: two at once would each see a fleet that is no more."""

_BY_FILE: Final = Reason("by_file", "As the fleet file says.").to_json()
_SKU_FIELDS: Final = (
    "accelerator", "accelerators_per_node", "accelerator_memory", "cpu", "memory", "nvlink", "tdp_w", "idle_w",
    "on_demand_nodes", "sources",
)  # fmt: skip
_SITE_FIELDS: Final = ("country", "grid_zone", "pue", "power_cap_kw", "carbon", "carbon_source")

_ADD_NODES: Final = text("""
    INSERT INTO nodes (id, hostname, sku_id, leaf_id, delivery_id, accelerators, status, status_reason, health,
        created_at, updated_at)
    SELECT n.id, n.hostname, k.id, l.id, d.id, CAST(a.accelerators AS jsonb), n.status, CAST(:reason AS jsonb), '{}',
        :now, :now
    FROM unnest(CAST(:ids AS text[]), CAST(:hosts AS text[]), CAST(:skus AS text[]), CAST(:leaves AS text[]),
        CAST(:deliveries AS text[]), CAST(:statuses AS text[]), CAST(:shapes AS integer[]))
        AS n (id, hostname, sku, leaf, delivery, status, shape)
    JOIN unnest(CAST(:texts AS text[])) WITH ORDINALITY AS a (accelerators, shape) USING (shape)
    JOIN skus k ON k.name = n.sku
    JOIN leaves l ON l.name = n.leaf
    LEFT JOIN deliveries d ON d.name = n.delivery
""")
_OVER_CAP: Final = text("""
    SELECT s.name, s.power_cap_kw, coalesce(s.pue, 1) AS pue, count(*) AS nodes,
        sum(k.tdp_w) * coalesce(s.pue, 1) / 1000 AS kw
    FROM nodes n JOIN skus k ON k.id = n.sku_id JOIN leaves l ON l.id = n.leaf_id
    JOIN halls h ON h.id = l.hall_id JOIN sites s ON s.id = h.site_id
    WHERE s.power_cap_kw IS NOT NULL AND n.status <> 'retired'
    GROUP BY s.id HAVING sum(k.tdp_w) * coalesce(s.pue, 1) / 1000 > s.power_cap_kw ORDER BY s.name
""")


class DeclaredStore:
    """Names are the keys throughout: a file knows no ids."""

    async def lock(self, tx: Tx) -> None:
        await tx.execute(select(func.pg_advisory_xact_lock(APPLYING)))

    # What there is

    async def present(self, tx: Tx, now: datetime) -> Present:
        things = {
            Section.SKUS: await self._skus(tx),
            Section.SITES: await self._sites(tx),
            Section.HALLS: await self._halls(tx),
            Section.LEAVES: await self._leaves(tx),
            Section.DELIVERIES: await self._deliveries(tx),
            Section.NODES: await self._nodes(tx),
            Section.MAINTENANCE: await self._maintenance(tx, now),
        }
        return Present(things, _local(things))

    async def _skus(self, tx: Tx) -> dict[str, dict[str, Any]]:
        rows = await tx.execute(select(t.skus))
        return {row.name: {field: getattr(row, field) for field in _SKU_FIELDS} for row in rows}

    async def _sites(self, tx: Tx) -> dict[str, dict[str, Any]]:
        found = {}
        for row in await tx.execute(select(t.sites)):
            price = Money(row.energy_price, row.energy_currency) if row.energy_price is not None else None
            found[row.name] = {field: getattr(row, field) for field in _SITE_FIELDS} | {"energy_price": price}
        return found

    async def _halls(self, tx: Tx) -> dict[str, dict[str, Any]]:
        query = select(t.halls.c.name, t.sites.c.name.label("site")).select_from(t.halls).join(t.sites)
        rows = await tx.execute(query)
        return {row.name: {"site": row.site} for row in rows}

    async def _leaves(self, tx: Tx) -> dict[str, dict[str, Any]]:
        query = select(t.leaves.c.name, t.leaves.c.fabric, t.leaves.c.spares, t.halls.c.name.label("hall"))
        rows = await tx.execute(query.select_from(t.leaves).join(t.halls))
        return {row.name: {"hall": row.hall, "fabric": row.fabric, "spares": row.spares} for row in rows}

    async def _nodes(self, tx: Tx) -> dict[str, dict[str, Any]]:
        query = (
            select(
                t.nodes.c.hostname,
                t.nodes.c.status,
                func.jsonb_array_length(t.nodes.c.accelerators).label("accelerators"),
                t.skus.c.name.label("sku"),
                t.leaves.c.name.label("leaf"),
                t.deliveries.c.name.label("delivery"),
            )
            .select_from(t.nodes)
            .join(t.skus, t.nodes.c.sku_id == t.skus.c.id)
            .join(t.leaves, t.nodes.c.leaf_id == t.leaves.c.id)
            .outerjoin(t.deliveries, t.nodes.c.delivery_id == t.deliveries.c.id)
        )
        return {
            row.hostname: {
                "sku": row.sku,
                "leaf": row.leaf,
                "status": row.status,
                "accelerators": row.accelerators,
                "delivery": row.delivery,
            }
            for row in await tx.execute(query)
        }

    async def _deliveries(self, tx: Tx) -> dict[str, dict[str, Any]]:
        query = (
            select(
                t.deliveries,
                t.sites.c.name.label("site"),
                t.skus.c.name.label("sku"),
                func.jsonb_object_agg(t.leaves.c.name, t.delivery_leaves.c.nodes).label("leaves"),
            )
            .select_from(t.deliveries)
            .join(t.sites, t.deliveries.c.site_id == t.sites.c.id)
            .join(t.skus, t.deliveries.c.sku_id == t.skus.c.id)
            .join(t.delivery_leaves, t.delivery_leaves.c.delivery_id == t.deliveries.c.id)
            .join(t.leaves, t.delivery_leaves.c.leaf_id == t.leaves.c.id)
            .group_by(t.deliveries.c.id, t.sites.c.name, t.skus.c.name)
        )
        return {
            row.name: {
                "site": row.site,
                "sku": row.sku,
                "leaves": row.leaves,
                "service_at": row.service_at,
                "confidence": row.confidence,
                "milestones": milestones_from(row.milestones),
                "history": row.accepted_at is not None,
            }
            for row in await tx.execute(query)
        }

    async def _maintenance(self, tx: Tx, now: datetime) -> dict[str, dict[str, Any]]:
        query = (
            select(t.maintenance, t.leaves.c.name.label("leaf"), t.skus.c.name.label("sku"))
            .select_from(t.maintenance)
            .join(t.leaves, t.maintenance.c.leaf_id == t.leaves.c.id)
            .join(t.skus, t.maintenance.c.sku_id == t.skus.c.id)
            .where(t.maintenance.c.end_at > now)
        )
        found = {}
        for row in await tx.execute(query):
            fields = {
                "leaf": row.leaf,
                "sku": row.sku,
                "start": row.start_at,
                "end": row.end_at,
                "nodes": row.nodes,
                "reason": row.reason,
            }
            found[maintenance_key(fields)] = fields
        return found

    async def leaf_ids(self, tx: Tx, names: Collection[str]) -> set[LeafId]:
        rows = await tx.execute(select(t.leaves.c.id).where(t.leaves.c.name.in_(list(names))))
        return {LeafId(row.id) for row in rows}

    async def leaves_with(self, tx: Tx, skus: Collection[str]) -> set[LeafId]:
        """Leaves in which nodes of these SKUs stand."""
        query = select(t.nodes.c.leaf_id).distinct().select_from(t.nodes).join(t.skus)
        rows = await tx.execute(query.where(t.skus.c.name.in_(list(skus))))
        return {LeafId(row.leaf_id) for row in rows}

    async def leaves_of_sites(self, tx: Tx, sites: Collection[str]) -> set[LeafId]:
        query = select(t.leaves.c.id).select_from(t.leaves).join(t.halls).join(t.sites)
        return {LeafId(row.id) for row in await tx.execute(query.where(t.sites.c.name.in_(list(sites))))}

    async def node_ids(self, tx: Tx, hosts: Collection[str]) -> dict[NodeId, str]:
        """Hostnames by id. The rows stay locked."""
        query = select(t.nodes.c.id, t.nodes.c.hostname).where(t.nodes.c.hostname.in_(list(hosts))).with_for_update()
        return {NodeId(row.id): row.hostname for row in await tx.execute(query)}

    async def over_cap(self, tx: Tx) -> Sequence[tuple[str, int, int]]:
        """Sites whose nodes may draw more than they have: name, kilowatts drawn at most, the cap."""
        return [(row.name, round(row.kw), round(row.power_cap_kw)) for row in await tx.execute(_OVER_CAP)]

    # Writing

    async def add(
        self,
        tx: Tx,
        section: Section,
        rows: Sequence[tuple[str, Mapping[str, Any]]],
        now: datetime,
        id: Callable[[], str],
    ) -> None:
        """New things by name, with all their fields."""
        if not rows:
            return
        if section is Section.NODES:
            await self._add_nodes(tx, rows, now, id)
            return
        table = _TABLES[section]
        ids = await self._ids(tx, section, [fields for _, fields in rows])
        values = []
        for name, fields in rows:
            row: dict[str, Any] = {"id": id(), "created_at": now, **_columns(section, fields, ids)}
            if section is not Section.MAINTENANCE:
                row["name"] = name
            if section is Section.DELIVERIES:
                row["updated_at"] = now
            values.append(row)
        await tx.execute(insert(table), values)
        if section is Section.DELIVERIES:
            for row, (_, fields) in zip(values, rows, strict=True):
                await self._place(tx, row["id"], fields["leaves"])

    async def change(self, tx: Tx, section: Section, name: str, fields: Mapping[str, Any], now: datetime) -> None:
        """One thing that is not a node; only the fields that are given."""
        table = _TABLES[section]
        columns = _columns(section, fields, await self._ids(tx, section, [fields]))
        if section is Section.DELIVERIES:
            columns["updated_at"] = now
        key = table.c.name == name if section is not Section.MAINTENANCE else table.c.id == await self._window(tx, name)
        if columns:
            await tx.execute(update(table).where(key).values(columns))
        if section is Section.DELIVERIES and "leaves" in fields:
            id = (await tx.execute(select(table.c.id).where(key))).scalar_one()
            await tx.execute(delete(t.delivery_leaves).where(t.delivery_leaves.c.delivery_id == id))
            await self._place(tx, id, fields["leaves"])

    async def change_nodes(self, tx: Tx, hosts: Sequence[str], fields: Mapping[str, Any], now: datetime) -> None:
        """Nodes that change in the same way."""
        ids = await self._ids(tx, Section.NODES, [fields])
        columns: dict[str, Any] = {"updated_at": now}
        for field, column in (("sku", "sku_id"), ("leaf", "leaf_id"), ("delivery", "delivery_id")):
            if field in fields:
                columns[column] = ids[field].get(fields[field])
        if "status" in fields:
            columns |= {"status": fields["status"], "status_reason": _BY_FILE}
        await tx.execute(update(t.nodes).where(t.nodes.c.hostname.in_(list(hosts))).values(columns))
        if "sku" in fields or "accelerators" in fields:
            await self._reshape(tx, hosts, fields.get("accelerators"))

    async def remove(self, tx: Tx, section: Section, names: Sequence[str]) -> None:
        """What hangs on it goes with it: windows of a leaf, checks of a node, deliveries that were accepted."""
        if not names:
            return
        if section is Section.MAINTENANCE:
            for name in names:
                await tx.execute(delete(t.maintenance).where(t.maintenance.c.id == await self._window(tx, name)))
            return
        table, key = _TABLES[section], "hostname" if section is Section.NODES else "name"
        ids = select(table.c.id).where(table.c[key].in_(list(names)))
        for child, column in _HANGS_ON.get(section, ()):
            await tx.execute(delete(child).where(child.c[column].in_(ids)))
        await tx.execute(delete(table).where(table.c[key].in_(list(names))))

    # Parts

    async def _add_nodes(
        self, tx: Tx, rows: Sequence[tuple[str, Mapping[str, Any]]], now: datetime, id: Callable[[], str]
    ) -> None:
        shapes = await self._shapes(tx, {fields["sku"] for _, fields in rows})
        kinds: dict[tuple[str, int | None], int] = {}  # many nodes are of few kinds
        numbers = [kinds.setdefault((fields["sku"], fields["accelerators"]), len(kinds) + 1) for _, fields in rows]
        await tx.execute(
            _ADD_NODES,
            {
                "ids": [id() for _ in rows],
                "hosts": [host for host, _ in rows],
                "skus": [fields["sku"] for _, fields in rows],
                "leaves": [fields["leaf"] for _, fields in rows],
                "deliveries": [fields["delivery"] for _, fields in rows],
                "statuses": [fields["status"] for _, fields in rows],
                "shapes": numbers,
                "texts": [_accelerators(shapes[sku], count) for sku, count in kinds],
                "reason": json.dumps(_BY_FILE),
                "now": now,
            },
        )

    async def _reshape(self, tx: Tx, hosts: Sequence[str], count: int | None) -> None:
        query = select(t.nodes.c.hostname, t.skus.c.name).select_from(t.nodes).join(t.skus)
        by_sku: dict[str, list[str]] = {}
        for row in await tx.execute(query.where(t.nodes.c.hostname.in_(list(hosts)))):
            by_sku.setdefault(row.name, []).append(row.hostname)
        shapes = await self._shapes(tx, set(by_sku))
        for sku, some in by_sku.items():
            accelerators = json.loads(_accelerators(shapes[sku], count))
            await tx.execute(update(t.nodes).where(t.nodes.c.hostname.in_(some)).values(accelerators=accelerators))

    async def _shapes(self, tx: Tx, skus: Collection[str]) -> dict[str, tuple[str, int, int | None]]:
        rows = await tx.execute(select(t.skus).where(t.skus.c.name.in_(list(skus))))
        return {row.name: (row.accelerator, row.accelerators_per_node, row.accelerator_memory) for row in rows}

    async def _ids(self, tx: Tx, section: Section, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
        """Ids of what the rows refer to, by field and name."""
        found: dict[str, dict[str, str]] = {}
        for field, table in _REFERS.get(section, {}).items():
            names = {row[field] for row in rows if row.get(field) is not None}
            query = select(table.c.name, table.c.id).where(table.c.name.in_(names))
            found[field] = {row.name: row.id for row in await tx.execute(query)}
        return found

    async def _place(self, tx: Tx, delivery: str, leaves: Mapping[str, int]) -> None:
        query = select(t.leaves.c.name, t.leaves.c.id).where(t.leaves.c.name.in_(list(leaves)))
        rows = [
            {"delivery_id": delivery, "leaf_id": row.id, "nodes": leaves[row.name]} for row in await tx.execute(query)
        ]
        await tx.execute(insert(t.delivery_leaves), rows)

    async def _window(self, tx: Tx, key: str) -> str | None:
        leaf, sku, times = key.split(" ")
        start, end = (datetime.fromisoformat(at) for at in times.split("/"))
        query = (
            select(t.maintenance.c.id)
            .join(t.leaves, t.maintenance.c.leaf_id == t.leaves.c.id)
            .join(t.skus, t.maintenance.c.sku_id == t.skus.c.id)
            .where(t.leaves.c.name == leaf, t.skus.c.name == sku)
            .where(t.maintenance.c.start_at == start, t.maintenance.c.end_at == end)
        )
        id: str | None = (await tx.execute(query.limit(1))).scalar_one_or_none()
        return id


_TABLES: Final[Mapping[Section, Table]] = {
    Section.SKUS: t.skus,
    Section.SITES: t.sites,
    Section.HALLS: t.halls,
    Section.LEAVES: t.leaves,
    Section.DELIVERIES: t.deliveries,
    Section.NODES: t.nodes,
    Section.MAINTENANCE: t.maintenance,
}
_REFERS: Final[Mapping[Section, Mapping[str, Table]]] = {
    Section.HALLS: {"site": t.sites},
    Section.LEAVES: {"hall": t.halls},
    Section.DELIVERIES: {"site": t.sites, "sku": t.skus},
    Section.NODES: {"sku": t.skus, "leaf": t.leaves, "delivery": t.deliveries},
    Section.MAINTENANCE: {"sku": t.skus, "leaf": t.leaves},
}
_HANGS_ON: Final[Mapping[Section, Sequence[tuple[Table, str]]]] = {
    Section.LEAVES: ((t.maintenance, "leaf_id"), (t.delivery_leaves, "leaf_id")),
    Section.SITES: ((t.deliveries, "site_id"),),
    Section.SKUS: ((t.deliveries, "sku_id"), (t.maintenance, "sku_id")),
}


def _columns(section: Section, fields: Mapping[str, Any], ids: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Fields of the file as columns of its table."""
    columns: dict[str, Any] = {}
    for name, value in fields.items():
        if name in ids:
            columns[f"{name}_id"] = ids[name].get(value)
        elif name == "energy_price":
            columns["energy_price"] = value.amount if value is not None else None
            columns["energy_currency"] = value.currency if value is not None else None
        elif name in ("start", "end"):
            columns[f"{name}_at"] = value
        elif name == "milestones":
            columns["milestones"] = milestones_to(value)
            columns["accepted_at"] = value["accepted"].reached if "accepted" in value else None
        elif name not in ("leaves", "history") or section is not Section.DELIVERIES:
            columns[name] = value
    return columns


def _accelerators(shape: tuple[str, int, int | None], count: int | None) -> str:
    kind, usual, memory = shape
    return json.dumps([asdict(Accelerator(at, kind, memory)) for at in range(usual if count is None else count)])


def _local(things: Mapping[Section, Mapping[str, Mapping[str, Any]]]) -> dict[Section, frozenset[str]]:
    """What discovery made: everything at site `local`, and the SKUs of its nodes."""
    halls = {name for name, hall in things[Section.HALLS].items() if hall["site"] == LOCAL}
    leaves = {name for name, leaf in things[Section.LEAVES].items() if leaf["hall"] in halls}
    nodes = {name: node for name, node in things[Section.NODES].items() if node["leaf"] in leaves}
    return {
        Section.SITES: frozenset({LOCAL}),
        Section.HALLS: frozenset(halls),
        Section.LEAVES: frozenset(leaves),
        Section.NODES: frozenset(nodes),
        Section.SKUS: frozenset({LOCAL} | {node["sku"] for node in nodes.values()}),
    }
