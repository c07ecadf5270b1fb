"""Quotes: a priced answer to what somebody asks for. It promises nothing until an offer is held."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from skerry.billing.service import Billing
from skerry.capacity.asking import QuoteAsk
from skerry.capacity.errors import NoPrice, UnknownQuote, UnknownSite, UnknownSku
from skerry.capacity.live import LiveCalendar
from skerry.capacity.model import NoOffer, Offer, Quote, QuoteRequest
from skerry.capacity.moments import ceil_second, seconds
from skerry.capacity.rules.asking import Market, allowed_sites, checked
from skerry.capacity.rules.energy import place_of
from skerry.capacity.rules.finding import Finder
from skerry.capacity.rules.offers import Draft, Drafting, Prices
from skerry.capacity.rules.unreserved import TimePrices
from skerry.capacity.store.quotes import QuoteStore
from skerry.db.database import Database, Tx
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import Clock
from skerry.kernel.ids import IdFactory, OfferId, OrganizationId, ProjectId, QuoteId, new_id
from skerry.kernel.windows import Window

QUOTES_KEPT: Final = timedelta(days=7)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class QuoteTerms:
    """`offer_seconds`: how long an offer is honoured if it can still be admitted."""

    offer_seconds: int = 300
    horizon_days: int = 1096


class Quotes:
    """`draft` is the whole of it without the database: `benchmarks/calendar.py` measures it."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        identity: Identity,
        billing: Billing,
        live: LiveCalendar,
        terms: QuoteTerms,
        ids: IdFactory = new_id,
    ) -> None:
        self.db, self.clock, self.identity, self.billing, self.live = db, clock, identity, billing, live
        self.terms, self.new_id = terms, ids
        self._store = QuoteStore()

    async def create(self, principal: Principal, ask: QuoteAsk) -> Quote:
        """Raises UnknownSku, UnknownSite, OutsideJurisdiction, BadWindow, InThePast, BeyondHorizon, ScopeTooLarge,
        NoPrice."""
        await self.live.refresh()
        async with self.db.reading() as tx:
            jurisdictions = (await self.identity.project(tx, principal.project_id)).jurisdictions
        try:
            request = checked(ask, self.market(), jurisdictions)
        except (UnknownSku, UnknownSite):
            # Whoever has just declared it need not wait until we have heard of it.
            if not self.live.doubt_all():
                raise
            await self.live.refresh()
            request = checked(ask, self.market(), jurisdictions)
        async with self.db.transaction() as tx:
            return await self._quote(tx, principal, request)

    async def again(self, principal: Principal, request: QuoteRequest) -> Quote:
        """A fresh quote of a request that was quoted before. What has passed meanwhile begins now."""
        await self.live.refresh()
        market = self.market()
        now = ceil_second(market.now)
        if request.earliest_after < now:
            start = request.start_at if request.start_at is not None and request.start_at >= now else None
            request = replace(request, start_at=start, earliest_after=now)
        async with self.db.transaction() as tx:
            jurisdictions = (await self.identity.project(tx, principal.project_id)).jurisdictions
            # Where it may be can have changed since.
            sites = allowed_sites(request.sites, market, jurisdictions)
            return await self._quote(tx, principal, replace(request, sites=sites))

    async def get(self, project: ProjectId, id: str) -> Quote:
        """Raises UnknownQuote."""
        async with self.db.reading() as tx:
            found = await self._store.find(tx, project, id)
        if found is None:
            raise UnknownQuote(f"there is no quote {id!r} in this project", suggestion="Ask for a new one.")
        return found

    async def forget(self, tx: Tx) -> int:
        """Drop quotes that nobody can use any more."""
        return await self._store.forget(tx, self.clock.now() - QUOTES_KEPT)

    async def prices(self, tx: Tx, organization: OrganizationId, request: QuoteRequest) -> Prices:
        """What offers of this request are priced by."""
        if request.capacity_class is CapacityClass.RESERVED:
            return await self.billing.reserved.pricer(tx, organization)
        sku = self.live.skus[request.sku]
        now = self.clock.now()
        timeline = await self.billing.prices.timeline(tx, Window(now.replace(microsecond=0), ceil_second(now) + _HOUR))
        return TimePrices(self.billing.prices, timeline, sku.accelerators_per_node, request.capacity_class.value)

    def draft(self, request: QuoteRequest, prices: Prices) -> tuple[list[Draft], NoOffer | None]:
        """Offers without ids, from memory alone. Raises ScopeTooLarge."""
        live, market = self.live, self.market()
        finder = Finder(live.calendar, live.leaves, request, seconds(ceil_second(market.now)), seconds(market.horizon))
        places = {name: place_of(site) for name, site in live.sites.items()}
        drafting = Drafting(finder, prices, live.skus[request.sku].tdp_w, places, live.leaves)
        if request.capacity_class is CapacityClass.RESERVED:
            return drafting.offers()
        return drafting.unreserved()

    def market(self) -> Market:
        """What there is to ask for; the calendar is refreshed."""
        live, now = self.live, self.clock.now()
        skus = {ref: sku.name for sku in live.skus.values() for ref in (sku.id, sku.name)}
        sites = {ref: site.name for site in live.sites.values() for ref in (site.id, site.name)}
        countries = {site.name: site.country for site in live.sites.values()}
        horizon = now.replace(microsecond=0) + timedelta(days=self.terms.horizon_days)
        return Market(skus, sites, countries, now, horizon)

    async def _quote(self, tx: Tx, principal: Principal, request: QuoteRequest) -> Quote:
        prices = await self.prices(tx, principal.organization_id, request)
        drafts, no_offer = self.draft(request, prices)
        require_priced(drafts)
        quote = self._made(principal.project_id, request, drafts, no_offer)
        await self._store.insert(tx, quote)
        return quote

    def _made(
        self, project: ProjectId, request: QuoteRequest, drafts: Sequence[Draft], no_offer: NoOffer | None
    ) -> Quote:
        now, id = self.clock.now(), QuoteId(self.new_id("qt"))
        expires = now + timedelta(seconds=self.terms.offer_seconds)
        offers = tuple(self._offer(id, draft, expires) for draft in drafts)
        return Quote(id, project, request, offers, now, expires, no_offer)

    def _offer(self, quote: QuoteId, draft: Draft, expires: datetime) -> Offer:
        return Offer(
            id=OfferId(self.new_id("off")),
            quote=quote,
            kind=draft.kind,
            start=draft.spot.start,
            end=draft.end,
            site=draft.site,
            legs=draft.legs,
            fragmentation=draft.fragmentation,
            price=draft.price,
            energy=draft.energy,
            expires_at=min(expires, draft.end),
        )


def require_priced(drafts: Sequence[Draft]) -> None:
    """Raises NoPrice where something would be had for nothing because nobody thought of its price."""
    for draft in drafts:
        if draft.price.unpriced:
            names = ", ".join(draft.price.unpriced)
            raise NoPrice(
                f"there is no price for {names}",
                suggestion="Ask your operator to publish a price book that has node_seconds_reserved for it.",
                extra={"skus": list(draft.price.unpriced)},
            )
