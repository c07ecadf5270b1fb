"""Reports only read: usage from metering, prices from billing, put side by side."""

from collections.abc import Iterable
from dataclasses import replace

from skerry.billing.model import RATED_BY, Charge, OneOff, exact_sum
from skerry.billing.service import PriceBooks
from skerry.db.database import Database
from skerry.kernel.ids import ProjectId
from skerry.kernel.paging import Page, PageRequest
from skerry.metering.model import UsageQuery
from skerry.metering.service import Metering, bucket_of, continued, cursor_of
from skerry.reports.model import CostRow


class Reports:
    def __init__(self, db: Database, metering: Metering, prices: PriceBooks) -> None:
        self.db = db
        self.metering = metering
        self.prices = prices

    async def costs(self, project: ProjectId, query: UsageQuery, page: PageRequest) -> Page[CostRow]:
        """The rows of `Metering.usage`, priced: each the exact sum of charges that do not reach across a price change.

        Hours inside which prices changed are read from the facts themselves, and are as fresh as these.
        """
        rest, _ = continued(query, page)
        finer = replace(rest, group_by=tuple(dict.fromkeys((*query.group_by, *RATED_BY))))
        async with self.db.reading() as tx:
            prices = await self.prices.timeline(tx, rest.window, project)
            pieces = await self.metering.rollups(tx, project, finer, prices.cuts)
            charges = await self.prices.charges_within(tx, project, rest.window)
            name = await self.metering.project_name(tx, project, query) if charges else ""
        costs = [_cost(charge, prices.currency) for charge in self.prices.rate(pieces, prices)]
        costs += [_one_off(charge, query, name) for charge in charges]
        rows = {_cursor(query, row): row for row in _rows(costs, query)}
        keys = sorted(key for key in rows if page.after is None or key > page.after)
        return Page.cut([rows[key] for key in keys[: page.limit + 1]], page, lambda row: _cursor(query, row))


def _cost(charge: Charge, currency: str) -> CostRow:
    usage = charge.usage
    return CostRow(
        window=usage.window,
        meter=usage.meter,
        quantity=usage.quantity,
        groups=usage.groups,
        currency=currency,
        list_cost=charge.list_cost,
        contracted_cost=charge.contracted_cost,
        billed_cost=charge.billed_cost,
    )


def _one_off(charge: OneOff, query: UsageQuery, project_name: str) -> CostRow:
    """As if it were usage of quantity 1 at its moment."""
    known = {**charge.dims, "resource": charge.resource, "project": project_name or charge.project}
    return CostRow(
        window=bucket_of(query, charge.at),
        meter=charge.kind,
        quantity=1,
        groups={name: known.get(name) for name in query.group_by},
        currency=charge.currency,
        list_cost=charge.amount,
        contracted_cost=charge.amount,
        billed_cost=charge.amount,
    )


def _rows(costs: Iterable[CostRow], query: UsageQuery) -> Iterable[CostRow]:
    """Put together by bucket, meter and the names grouped by."""
    together: dict[tuple[object, ...], list[CostRow]] = {}
    for cost in costs:
        key = (cost.window, cost.meter, *(cost.groups[name] for name in query.group_by))
        together.setdefault(key, []).append(cost)
    for same in together.values():
        yield replace(
            same[0],
            quantity=sum(cost.quantity for cost in same),
            groups={name: same[0].groups[name] for name in query.group_by},
            list_cost=exact_sum(cost.list_cost for cost in same),
            contracted_cost=exact_sum(cost.contracted_cost for cost in same),
            billed_cost=exact_sum(cost.billed_cost for cost in same),
        )


def _cursor(query: UsageQuery, row: CostRow) -> tuple[str, ...]:
    return cursor_of(query, row.window, row.meter, row.groups)
