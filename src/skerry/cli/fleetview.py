"""The fleet and changes to it, as text. Pure: values in, lines out."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from skerry.cli.figures import count, when
from skerry.cli.output import Column
from skerry.client.answers.fleet import CatalogueSku, Endangered, FleetChange, FleetPlan, LeafRow

SIGNS = {"add": "+", "change": "~", "remove": "-"}
NOUNS = {
    "skus": "SKU",
    "sites": "site",
    "halls": "hall",
    "leaves": "leaf",
    "deliveries": "delivery",
    "nodes": "node",
    "maintenance": "maintenance",
}
MOST_LINES = 40
"""Of the same kind, in a plan; the rest is counted."""
GB = 10**9

LEAVES: tuple[Column[LeafRow], ...] = (
    Column("site", lambda row: f"{row.site} {row.country or ''}".strip(), whole=True),
    Column("hall", lambda row: row.hall, whole=True),
    Column("leaf", lambda row: row.leaf, whole=True),
    Column("sku", lambda row: row.sku, whole=True),
    Column("nodes", lambda row: count(sum(row.statuses.values())), right=True),
    Column("ready", lambda row: count(row.statuses.get("ready", 0)), right=True),
    Column("spares", lambda row: count(row.spares) if row.spares else "", right=True),
    Column("sellable", lambda row: count(row.sellable), right=True),
    Column("planned", lambda row: f"+{row.planned:,}" if row.planned else "", right=True),
    Column("out of service", lambda row: out_of_service(row.statuses)),
)
HALLS = tuple(column for column in LEAVES if column.title not in ("leaf", "spares"))

CATALOGUE: tuple[Column[CatalogueSku], ...] = (
    Column("name", lambda sku: sku.name, whole=True),
    Column("accelerators", lambda sku: f"{sku.accelerators_per_node} × {sku.accelerator}", whole=True),
    Column("each", lambda sku: f"{sku.accelerator_memory // GB} GB" if sku.accelerator_memory else "", right=True),
    Column("cores", lambda sku: count(sku.cpu), right=True),
    Column("full load", lambda sku: watts(sku.tdp_w, sku.sources.get("tdp_w", "")), right=True),
    Column("at rest", lambda sku: watts(sku.idle_w, sku.sources.get("idle_w", "")), right=True),
    Column("leaf of", lambda sku: count(sku.leaf_size), right=True),
)


def by_hall(rows: Iterable[LeafRow]) -> list[LeafRow]:
    """Leaves of one hall and SKU added up."""
    found: list[LeafRow] = []
    for (site, hall, sku), group in groupby(
        sorted(rows, key=lambda row: (row.site, row.hall, row.sku)), key=lambda row: (row.site, row.hall, row.sku)
    ):
        leaves = list(group)
        statuses: dict[str, int] = {}
        for leaf in leaves:
            for status, nodes in leaf.statuses.items():
                statuses[status] = statuses.get(status, 0) + nodes
        found.append(
            LeafRow(
                site=site,
                country=leaves[0].country,
                hall=hall,
                sku=sku,
                size=sum(leaf.size for leaf in leaves),
                spares=sum(leaf.spares for leaf in leaves),
                statuses=statuses,
                sellable=sum(leaf.sellable for leaf in leaves),
                planned=sum(leaf.planned for leaf in leaves),
            )
        )
    return found


def plan_lines(plan: FleetPlan) -> Iterator[str]:
    """A plan like a diff, with what there is to say about it."""
    for _, group in groupby(plan.changes, key=lambda change: (change.action, change.section)):
        changes = list(group)
        for change in changes[:MOST_LINES]:
            yield from change_lines(change)
        if len(changes) > MOST_LINES:
            rest = changes[MOST_LINES:]
            noun = NOUNS.get(rest[0].section, rest[0].section)
            yield f"{SIGNS[rest[0].action]} … {sum(one.count for one in rest):,} more of kind {noun}"
    for warning in plan.warnings:
        yield f"! {warning}"
    for one in plan.makes_late:
        yield f"! {late_line(one)}"
    for why in plan.refused:
        yield f"✗ {why}"


def change_lines(change: FleetChange) -> Iterator[str]:
    noun = NOUNS.get(change.section, change.section)
    many = f" ({change.count:,} nodes)" if change.count > 1 else ""
    yield f"{SIGNS.get(change.action, '?')} {noun} {change.name}{many}"
    if change.action == "change":
        for name, field in change.fields.items():
            yield f"    {name}: {_shown(field.before)} → {_shown(field.after)}"


def summary(plan: FleetPlan) -> str:
    words = (("add", "to add", "added"), ("change", "to change", "changed"), ("remove", "to remove", "removed"))
    return ", ".join(f"{plan.counts.get(key, 0):,} {done if plan.applied else todo}" for key, todo, done in words) + "."


def late_lines(late: Sequence[Endangered]) -> list[str]:
    return [late_line(one) for one in late]


def late_line(one: Endangered) -> str:
    nodes = "node" if one.nodes_short == 1 else "nodes"
    return f"{one.reservation} lacks {one.nodes_short} {nodes} in {one.leaf} from {when(one.starts)} on"


def out_of_service(statuses: dict[str, int]) -> str:
    return ", ".join(f"{nodes:,} {status}" for status, nodes in sorted(statuses.items()) if status != "ready")


def watts(value: int, source: str) -> str:
    """`~` marks what is assumed."""
    return f"{'~' if source.startswith('assumed') else ''}{value:,} W"


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)
