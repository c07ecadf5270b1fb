"""What others may ask of the binder or tell it: what is bound, what was delivered, look again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from skerry.capacity.binding.model import KIND, BindingReason, BoundNode, DeliveryRow
from skerry.capacity.binding.store import BindingStore
from skerry.capacity.claims.model import Claim, HolderKind
from skerry.capacity.claims.store import ClaimStore
from skerry.capacity.model import Reservation
from skerry.db.database import Tx
from skerry.db.notify import WORK, notify
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.errors import Malformed
from skerry.kernel.ids import NodeId, ProjectId, ReservationId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import EventLog


@dataclass(frozen=True, slots=True)
class Delivered:
    """Node-seconds of a reservation that are on record: full hours, and what is over."""

    promised: int
    delivered: int


class Deliveries:
    """Belongs to no reconciler: every method works in the caller's transaction."""

    def __init__(self, clock: Clock, events: EventLog) -> None:
        self._clock = clock
        self._events = events
        self._store = BindingStore()
        self._claims = ClaimStore()

    async def wake(self, tx: Tx, *reservations: ReservationId) -> None:
        """Their legs or status have changed: have them looked at now. The caller holds their rows' locks."""
        await self._store.hint(tx, reservations, self._clock.now())
        await notify(tx, WORK, KIND)

    async def changed(self, tx: Tx, reservation: Reservation) -> None:
        """`Observer` of reservations: it was bought, its legs are others now, or it is over."""
        await self.wake(tx, reservation.id)

    async def delivered(self, tx: Tx, reservation: ReservationId, nodes: Collection[NodeId] | None = None) -> None:
        """These nodes (None: all that are bound) are there for their holder."""
        live = await self._claims.of_holders(tx, [reservation], live_at=self._clock.now())
        ids = [one.id for one in live if nodes is None or one.node in nodes]
        await self._claims.delivered(tx, ids, self._clock.now())
        await self.wake(tx, reservation)

    async def delivery_failed(
        self,
        tx: Tx,
        project: ProjectId,
        reservation: ReservationId,
        reason: str,
        nodes: Collection[NodeId] | None = None,
    ) -> None:
        """These nodes (None: all) could not be handed over. It is tried again; at its start it is `late`."""
        live = await self._claims.of_holders(tx, [reservation], live_at=self._clock.now())
        await self._claims.undelivered(tx, [one.id for one in live if nodes is None or one.node in nodes])
        await self._events.record(
            tx,
            project=project,
            resource=reservation,
            resource_kind=KIND,
            type=f"{KIND}.delivery_failed",
            data={"code": BindingReason.DELIVERY_FAILED.value, "message": reason},
        )
        await self.wake(tx, reservation)

    async def bound(self, tx: Tx, reservation: ReservationId) -> list[BoundNode]:
        """The nodes it has now or is to have, as far as they are chosen."""
        live = await self._claims.of_holders(tx, [reservation], live_at=self._clock.now())
        return [
            BoundNode(one.node, one.leaf, one.start, one.end, one.delivered_at) for one in live if one.end is not None
        ]

    async def record(
        self, tx: Tx, project: ProjectId, reservation: ReservationId, page: PageRequest
    ) -> Page[DeliveryRow]:
        """Promised and delivered node-seconds by site and clock hour, in order of time. Raises Malformed."""
        rows = await self._store.recorded(tx, project, reservation, _after(page), page.limit + 1)
        return Page.cut(rows, page, lambda row: (rfc3339(row.start), row.site))

    async def total(self, tx: Tx, project: ProjectId, reservation: ReservationId) -> Delivered:
        return Delivered(*await self._store.recorded_sum(tx, project, reservation))

    async def held_nodes(self, tx: Tx, nodes: Collection[NodeId]) -> Mapping[NodeId, str]:
        """Those of the nodes that somebody has, now or later, each with a few words on who and until when."""
        found: dict[NodeId, list[str]] = {}
        for claim in await self._claims.on_nodes(tx, nodes, self._clock.now()):
            found.setdefault(claim.node, []).append(_words(claim))
        return {node: ", ".join(dict.fromkeys(words)) for node, words in found.items()}


def _words(claim: Claim) -> str:
    until = f"until {rfc3339(claim.end.replace(microsecond=0))}" if claim.end is not None else "with no end"
    what = "reservation" if claim.holder_kind is HolderKind.RESERVATION else "workload"
    return f"{what} {claim.holder} {until}"


def _after(page: PageRequest) -> tuple[datetime, str] | None:
    if page.after is None:
        return None
    try:
        start, site = page.after
        return datetime.fromisoformat(start), site
    except ValueError:
        raise Malformed("after is not a cursor of this list", code="bad_cursor") from None
