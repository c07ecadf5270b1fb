"""The face of capacity: availability, quotes, reservations, changes."""

from dataclasses import dataclass, field

from skerry.billing.service import Billing
from skerry.capacity.binding.service import Deliveries
from skerry.capacity.live import FleetFacts, LiveCalendar
from skerry.capacity.service.admissions import NewReservation
from skerry.capacity.service.availability import Availabilities
from skerry.capacity.service.changes import Changes
from skerry.capacity.service.quotes import Quotes, QuoteTerms
from skerry.capacity.service.reservations import Reservations
from skerry.capacity.service.sold import Sold
from skerry.capacity.store.reservations import HoldLimits
from skerry.db.database import Database
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock
from skerry.kernel.ids import IdFactory, new_id
from skerry.runtime.events import EventLog

__all__ = [
    "Capacity",
    "CapacityPolicy",
    "HoldLimits",
    "LiveCalendar",
    "NewReservation",
    "QuoteTerms",
    "Reservations",
    "Sold",
]


@dataclass(frozen=True, slots=True)
class CapacityPolicy:
    """What an operator can set (settings of the same names)."""

    quotes: QuoteTerms = field(default_factory=QuoteTerms)
    holds: HoldLimits = field(default_factory=HoldLimits)
    hold_seconds: int = 900


class Capacity:
    """`live` is the calendar in memory; `sold` is what the fleet asks (`fleet.ask(capacity.sold)`); `deliveries` is for
    whoever brings bound nodes to their holders."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        identity: Identity,
        billing: Billing,
        fleet: FleetFacts,
        policy: CapacityPolicy | None = None,
        ids: IdFactory = new_id,
    ) -> None:
        policy = policy or CapacityPolicy()
        self.db, self.clock = db, clock
        self.deliveries = Deliveries(clock, events)
        self.live = LiveCalendar(db, clock, fleet)
        self.quotes = Quotes(db, clock, identity, billing, self.live, policy.quotes, ids)
        self.reservations = Reservations(
            db,
            clock,
            events,
            billing,
            self.live,
            self.quotes,
            self.deliveries,
            policy.holds,
            hold_seconds=policy.hold_seconds,
            ids=ids,
        )
        self.changes = Changes(db, clock, identity, billing, self.reservations, policy.quotes.offer_seconds, ids)
        self.availability = Availabilities(identity, self.live, self.quotes)
        self.sold = Sold(clock, events, self.deliveries, fleet)
