"""What leaves have and will have, counted by the database in one statement."""

from collections.abc import Collection, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Row, text

from skerry.db.database import Tx
from skerry.db.notify import FLEET
from skerry.fleet.model import AWAY, LeafSupply, NodeStatus
from skerry.fleet.rules.supply import LeafCounts, supply_of
from skerry.kernel.ids import LeafId

_AWAY: Final = ", ".join(f"'{status}'" for status in sorted(AWAY))

# Only constants of ours are put into the text. `{of}` limits a part to some leaves.
_COUNTS: Final = f"""
WITH counted AS (
    SELECT 'nodes' AS kind, leaf_id, sku_id, NULL::timestamptz AS start_at, NULL::timestamptz AS end_at,
        count(*) AS nodes, count(*) FILTER (WHERE status = '{NodeStatus.READY}') AS ready
    FROM nodes n WHERE status <> '{NodeStatus.RETIRED}' {{of}} GROUP BY leaf_id, sku_id
    UNION ALL
    SELECT 'returning', leaf_id, sku_id, until, NULL, count(*), 0
    FROM nodes n WHERE until IS NOT NULL AND status IN ({_AWAY}) {{of}} GROUP BY leaf_id, sku_id, until
    UNION ALL
    SELECT 'closed', leaf_id, sku_id, start_at, end_at, greatest(0, m.nodes - (
        SELECT count(*) FROM nodes o WHERE o.maintenance_id = m.id AND o.status <> '{NodeStatus.READY}'
    )), 0
    FROM maintenance m WHERE end_at > :now {{of}}
    UNION ALL
    SELECT 'planned', leaf_id, sku_id, service_at, NULL, greatest(0, least(allotted.nodes, ahead - before) - (
        SELECT count(*) FROM nodes o WHERE o.delivery_id = allotted.id AND o.leaf_id = allotted.leaf_id
    )), 0
    FROM (
        SELECT d.id, p.leaf_id, d.sku_id, d.service_at, p.nodes,
            floor(sum(p.nodes) OVER delivery * d.confidence * :ahead)::integer AS ahead,
            coalesce(sum(p.nodes) OVER (delivery ORDER BY l.name ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
                AS before
        FROM deliveries d JOIN delivery_leaves p ON p.delivery_id = d.id JOIN leaves l ON l.id = p.leaf_id
        WHERE d.accepted_at IS NULL
        WINDOW delivery AS (PARTITION BY d.id)
    ) AS allotted WHERE true {{of}}
)
SELECT c.*, l.name AS leaf, l.spares, h.name AS hall, s.name AS site, s.country, k.name AS sku
FROM counted c
JOIN leaves l ON l.id = c.leaf_id
JOIN halls h ON h.id = l.hall_id
JOIN sites s ON s.id = h.site_id
JOIN skus k ON k.id = c.sku_id
ORDER BY l.name, k.name, c.start_at
"""  # noqa: S608
_ALL: Final = text(_COUNTS.format(of=""))
_SOME: Final = text(_COUNTS.format(of="AND leaf_id = ANY(:leaves)"))
_NOTIFY: Final = text("SELECT pg_notify(:channel, leaf) FROM unnest(CAST(:leaves AS text[])) AS leaf")


class SupplyStore:
    """Counts over time; and telling others that they have changed."""

    async def supplies(
        self, tx: Tx, now: datetime, ahead: Decimal, leaves: Collection[LeafId] | None = None
    ) -> list[LeafSupply]:
        """Of all leaves, or of some, by name. `ahead`: the share of a delivery's confidence that may be sold."""
        given = {"now": now, "ahead": ahead}
        query, values = (_ALL, given) if leaves is None else (_SOME, {**given, "leaves": list(leaves)})
        rows = (await tx.execute(query, values)).all()
        return [supply_of(counts, now) for counts in _by_leaf(rows)]

    async def changed(self, tx: Tx, leaves: Iterable[str]) -> None:
        """Tell those who listen, when the transaction commits, that these leaves have another supply."""
        if touched := sorted(set(leaves)):
            await tx.execute(_NOTIFY, {"channel": FLEET, "leaves": touched})


def _by_leaf(rows: Iterable[Row[Any]]) -> Iterable[LeafCounts]:
    found: dict[tuple[str, str], LeafCounts] = {}
    for row in rows:
        counts = found.get((row.leaf_id, row.sku_id))
        if counts is None:
            counts = found[row.leaf_id, row.sku_id] = LeafCounts(
                LeafId(row.leaf_id), row.leaf, row.hall, row.site, row.country, row.sku, row.spares
            )
        match row.kind:
            case "nodes":
                counts.size, counts.ready = row.nodes, row.ready
            case "returning":
                counts.returning.append((row.start_at, row.nodes))
            case "closed":
                counts.closed.append((row.start_at, row.end_at, row.nodes))
            case _:
                counts.planned.append((row.start_at, row.nodes))
    return found.values()
