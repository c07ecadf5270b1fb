"""Quotes, offers and availability on the wire (API §4)."""

from pydantic import BaseModel, ConfigDict, Field

from skerry.capacity import model
from skerry.capacity.asking import AskedWindow, QuoteAsk
from skerry.capacity.model import OfferKind, Scope
from skerry.capacity.schemas.fields import Energy, Leg, Nodes, Number, Price, Ref, Second, Seconds, Time, Wire
from skerry.capacity.service import availability
from skerry.kernel.classes import CapacityClass


class WindowIn(Wire):
    """`nodes` are all there are in this window; windows are in order and do not overlap."""

    start: Second
    end: Second
    nodes: Nodes


class QuoteIn(Wire):
    """`nodes` with one of `duration_seconds` and `end_at`, or a `schedule`. Without `start_at` the earliest start is
    sought, from `earliest_after` (default: now) on. `scope`: how near each other the nodes shall be; it is preferred
    unless `scope_required`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"sku": "h100-sxm.8x", "nodes": 16, "duration_seconds": 1_209_600, "scope": "leaf"},
                {
                    "sku": "h100-sxm.8x",
                    "schedule": [
                        {"start": "2027-01-01T00:00:00Z", "end": "2027-03-01T00:00:00Z", "nodes": 64},
                        {"start": "2027-03-01T00:00:00Z", "end": "2027-06-01T00:00:00Z", "nodes": 128},
                    ],
                },
            ]
        }
    )

    sku: Ref
    nodes: Nodes | None = None
    duration_seconds: Seconds | None = None
    end_at: Second | None = None
    start_at: Second | None = None
    earliest_after: Second | None = None
    schedule: list[WindowIn] | None = Field(default=None, min_length=1, max_length=50)
    sites: list[Ref] | None = Field(default=None, max_length=100)
    scope: Scope = Scope.ANY
    scope_required: bool = False
    capacity_class: CapacityClass = CapacityClass.RESERVED

    def to_ask(self) -> QuoteAsk:
        schedule = self.schedule
        return QuoteAsk(
            sku=self.sku,
            nodes=self.nodes,
            duration_seconds=self.duration_seconds,
            end_at=self.end_at,
            start_at=self.start_at,
            earliest_after=self.earliest_after,
            schedule=tuple(AskedWindow(one.start, one.end, one.nodes) for one in schedule) if schedule else None,
            sites=tuple(self.sites or ()),
            scope=self.scope,
            scope_required=self.scope_required,
            capacity_class=self.capacity_class,
        )


class OfferOut(BaseModel):
    """`fragmentation`: the share of its node-seconds in leaves that it does not fill. `site` is null over several."""

    id: str
    kind: OfferKind
    start: Time
    end: Time
    site: str | None
    legs: list[Leg]
    fragmentation: Number
    price: Price
    energy: Energy
    expires_at: Time

    @classmethod
    def of(cls, offer: model.Offer) -> "OfferOut":
        return cls(
            id=offer.id,
            kind=offer.kind,
            start=offer.start,
            end=offer.end,
            site=offer.site,
            legs=[Leg.of(leg) for leg in offer.legs],
            fragmentation=offer.fragmentation,
            price=Price.of(offer.price),
            energy=Energy.of(offer.energy),
            expires_at=offer.expires_at,
        )


class NoOfferOut(BaseModel):
    """`earliest`: when so much is free; `nodes`: how many are free at the time asked for."""

    code: str
    message: str
    earliest: Time | None
    nodes: int | None


class QuoteOut(BaseModel):
    """A priced answer; nothing is kept until an offer is reserved. The main offer comes first."""

    id: str
    sku: str
    nodes: int
    capacity_class: CapacityClass
    scope: Scope
    scope_required: bool
    offers: list[OfferOut]
    no_offer_reason: NoOfferOut | None
    created_at: Time
    expires_at: Time

    @classmethod
    def of(cls, quote: model.Quote) -> "QuoteOut":
        own, none = quote.request, quote.no_offer
        return cls(
            id=quote.id,
            sku=own.sku,
            nodes=own.nodes,
            capacity_class=own.capacity_class,
            scope=own.scope,
            scope_required=own.scope_required,
            offers=[OfferOut.of(offer) for offer in quote.offers],
            no_offer_reason=(
                NoOfferOut(code=none.code, message=none.message, earliest=none.earliest, nodes=none.nodes)
                if none
                else None
            ),
            created_at=quote.created_at,
            expires_at=quote.expires_at,
        )


class FreeOut(BaseModel):
    start: Time
    end: Time
    free_nodes: int


class SiteScheduleOut(BaseModel):
    """`nodes`: the most that will ever be for sale there."""

    site: str
    sku: str
    nodes: int
    schedule: list[FreeOut]


class AvailabilityOut(BaseModel):
    as_of: Time
    start: Time
    end: Time
    data: list[SiteScheduleOut]

    @classmethod
    def of(cls, found: "availability.Availability") -> "AvailabilityOut":
        data = [
            SiteScheduleOut(
                site=one.site,
                sku=one.sku,
                nodes=one.size,
                schedule=[FreeOut(start=part.start, end=part.end, free_nodes=part.nodes) for part in one.schedule],
            )
            for one in found.data
        ]
        return cls(as_of=found.as_of, start=found.start, end=found.end, data=data)
