"""Reports only read: usage from metering, prices from billing, put side by side."""

from collections.abc import Iterable
from dataclasses import replace

from skerry.billing.model import RATED_BY, Charge, exact_sum
from skerry.billing.service import PriceBooks
from skerry.db.database import Database
from skerry.kernel.ids import ProjectId
from skerry.kernel.paging import Page, PageRequest
from skerry.metering.model import UsageQuery
from skerry.metering.service import Metering, continued, cursor_of
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
            prices = await self.prices.timeline(tx, rest.window)
            pieces = await self.metering.rollups(tx, project, finer, prices.cuts)
        charges = self.prices.rate(pieces, prices)
        rows = {_cursor(query, row): row for row in _rows(charges, query, prices.currency)}
        keys = sorted(key for key in rows if page.after is None or key > page.after)
        return Page.cut([rows[key] for key in keys[: page.limit + 1]], page, lambda row: _cursor(query, row))


def _rows(charges: Iterable[Charge], query: UsageQuery, currency: str) -> Iterable[CostRow]:
    """Charges put together by bucket, meter and the names grouped by."""
    together: dict[tuple[object, ...], list[Charge]] = {}
    for charge in charges:
        usage = charge.usage
        key = (usage.window, usage.meter, *(usage.groups[name] for name in query.group_by))
        together.setdefault(key, []).append(charge)
    for same in together.values():
        first = same[0].usage
        yield CostRow(
            window=first.window,
            meter=first.meter,
            quantity=sum(charge.usage.quantity for charge in same),
            groups={name: first.groups[name] for name in query.group_by},
            currency=currency,
            list_cost=exact_sum(charge.list_cost for charge in same),
            contracted_cost=exact_sum(charge.contracted_cost for charge in same),
            billed_cost=exact_sum(charge.billed_cost for charge in same),
        )


def _cursor(query: UsageQuery, row: CostRow) -> tuple[str, ...]:
    return cursor_of(query, row.window, row.meter, row.groups)
