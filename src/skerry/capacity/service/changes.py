"""Changes of what is bought, each quoted first: what it costs is known before it is done."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NoReturn

from skerry.billing.service import Billing
from skerry.capacity.asking import ChangeAsk
from skerry.capacity.changing import Changed, ChangeKind, ChangePlan, ChangeQuote, PartLegs
from skerry.capacity.errors import ChangeLapsed, NoRoomForChange, NotChangeable, UnknownChangeQuote
from skerry.capacity.locking import lock_leaves
from skerry.capacity.model import Leg, Reservation, ReservationStatus
from skerry.capacity.moments import ceil_second
from skerry.capacity.promises import Promises
from skerry.capacity.rules.asking import allowed_sites
from skerry.capacity.rules.offers import priced
from skerry.capacity.rules.reasons import ReasonCode, as_of, why_not
from skerry.capacity.service.planning import Planner, bad
from skerry.capacity.service.reservations import Reservations, unknown
from skerry.capacity.store.changes import ChangeStore
from skerry.capacity.store.reservations import LeafTaken, SupplyChanged, fields_of_legs, keys_of
from skerry.db.database import Database, Tx
from skerry.identity.errors import UnknownProject
from skerry.identity.model import Principal, Project
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.errors import SkerryError, Unavailable
from skerry.kernel.ids import IdFactory, ReservationId, new_id
from skerry.kernel.money import plain
from skerry.runtime.state import Reason

_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class _Order:
    """A change that is being carried out: all its leaves are locked."""

    principal: Principal
    before: Reservation
    quote: ChangeQuote
    plan: ChangePlan
    now: datetime


class Changes:
    def __init__(
        self,
        db: Database,
        clock: Clock,
        identity: Identity,
        billing: Billing,
        reservations: Reservations,
        offer_seconds: int,
        ids: IdFactory = new_id,
    ) -> None:
        self.db, self.clock, self.identity, self.billing = db, clock, identity, billing
        self.reservations, self.live = reservations, reservations.live
        self.life = timedelta(seconds=offer_seconds)
        self.new_id = ids
        self._store = ChangeStore()
        self._promises = Promises()

    async def quote(self, principal: Principal, id: str, ask: ChangeAsk) -> ChangeQuote:
        """What a change would cost; good for a few minutes, once, and for the reservation as it is now.

        Raises UnknownReservation, NotChangeable, BadChange, NoRoomForChange, and for a move what quotes raise.
        """
        await self.live.refresh()
        async with self.db.transaction() as tx:
            found = await self.reservations.read(tx, principal.project_id, id)
            plan = (await self._planner(tx, principal, found, ask)).plan(ask)
            now = self.clock.now()
            quote = ChangeQuote(
                id=self.new_id("cq"),
                reservation=found.id,
                project=found.project,
                ask=ask,
                version=found.version,
                plan=plan,
                created_at=now,
                expires_at=self._good_until(now, ask, plan),
            )
            await self._store.insert(tx, quote)
        return quote

    async def apply(self, principal: Principal, id: str, change_quote: str) -> Changed:
        """Do it. Raises UnknownReservation, UnknownChangeQuote, NotChangeable, ChangeLapsed with a fresh quote,
        NoRoomForChange, CreditExhausted, BudgetExhausted."""
        for _ in range(_TRIES):
            await self.live.refresh()
            quote: ChangeQuote | None = None
            try:
                async with self.db.transaction() as tx:
                    before, quote = await self._locked(tx, principal, id, change_quote)
                    if not self._lapsed(before, quote):
                        return await self._carry_out(tx, principal, before, quote)
                await self._refuse(principal, quote)
            except SupplyChanged:
                assert quote is not None
                self.live.doubt(keys_of(before, quote.plan.legs))
            except LeafTaken:
                assert quote is not None
                self.live.doubt(keys_of(before, quote.plan.legs))
                raise NoRoomForChange(
                    "others were faster: the nodes that it needs are promised to them",
                    suggestion="Ask for the change again: the answer says what is possible now.",
                ) from None
        raise Unavailable("The fleet is just changing.", code="fleet_changing", retry_after=1)

    async def forget(self, tx: Tx, before: datetime) -> int:
        """Drop change quotes that are older."""
        return await self._store.forget(tx, before)

    def _good_until(self, now: datetime, ask: ChangeAsk, plan: ChangePlan) -> datetime:
        """A move to what is over by then would sell nothing."""
        until = now + self.life
        return min([until, *(leg.window.end for leg in plan.legs)]) if ask.kind == ChangeKind.MOVE else until

    # Planning

    async def _planner(self, tx: Tx, principal: Principal, found: Reservation, ask: ChangeAsk) -> Planner:
        if (refusal := why_not(found, ask.kind)) is not None:
            raise NotChangeable(f"reservation {found.id} cannot be changed so: {refusal}")
        project = await self.identity.project(tx, found.project)
        market = self.reservations.quotes.market()
        named = {}
        for number, part in enumerate(ask.parts):
            named[part.project] = await self._target(tx, principal, found, part.project, f"parts.{number}.project")
            sites = sorted({leg.site for leg in found.legs})
            allowed_sites(sites, market, named[part.project].jurisdictions)
        return Planner(
            live=self.live,
            market=market,
            reservation=found,
            terms=await self.billing.reserved.terms(tx, found.id),
            pricer=await self.billing.reserved.pricer(tx, found.organization),
            jurisdictions=project.jurisdictions,
            projects=named,
        )

    async def _target(self, tx: Tx, principal: Principal, found: Reservation, ref: str, path: str) -> Project:
        """A project that a part goes to: of the same organization, and one that the key may see."""
        try:
            target = await self.identity.visible_project(tx, principal, ref)
        except UnknownProject:
            raise bad(path, f"there is no project {ref[:100]!r} that this key may see") from None
        if target.organization_id != found.organization:
            raise bad(path, "a reservation is split among projects of its organization only")
        return target

    # Carrying out

    async def _locked(
        self, tx: Tx, principal: Principal, id: str, change_quote: str
    ) -> tuple[Reservation, ChangeQuote]:
        """The row first, then all leaves that it stands on or will: in one call, so that nobody waits in a circle."""
        project = principal.project_id
        found = await self.reservations.store.find(tx, project, id, lock=True)
        if found is None:
            raise unknown(id)
        quote = await self._store.find(tx, project, id, change_quote)
        if quote is None:
            raise UnknownChangeQuote(f"there is no change quote {change_quote!r} of reservation {id}")
        await lock_leaves(tx, keys_of(found[0], (*found[0].legs, *quote.plan.legs)))
        return found[0], quote

    def _lapsed(self, before: Reservation, quote: ChangeQuote) -> bool:
        if quote.used_at is None and (refusal := why_not(as_of(before, self.clock.now()), quote.kind)) is not None:
            raise NotChangeable(f"reservation {before.id} cannot be changed so: {refusal}")
        return quote.used_at is not None or quote.expires_at <= self.clock.now() or quote.version != before.version

    async def _carry_out(self, tx: Tx, principal: Principal, before: Reservation, quote: ChangeQuote) -> Changed:
        now = ceil_second(self.clock.now())
        plan = quote.plan
        if quote.kind in (ChangeKind.CANCEL, ChangeKind.SHRINK):
            # What is used meanwhile stays used: the cut is made now, at the fee that was quoted.
            current = (await self._planner(tx, principal, before, quote.ask)).plan(quote.ask)
            plan = replace(current, fee=quote.plan.fee)
        await self._store.use(tx, before.project, quote.id, now)
        order = _Order(principal, before, quote, plan, now)
        match quote.kind:
            case ChangeKind.CANCEL:
                changed = Changed(await self._cancel(tx, order))
            case ChangeKind.SPLIT:
                changed = await self._split(tx, order)
            case _:
                changed = Changed(await self._reshape(tx, order))
        await self._promises.touch(tx, keys_of(before, (*before.legs, *plan.legs)))
        self.live.doubt(keys_of(before, (*before.legs, *plan.legs)))
        return changed

    async def _cancel(self, tx: Tx, order: _Order) -> Reservation:
        """What has begun ends now; what has not never was. The fee is what was quoted."""
        before = order.before
        after = ReservationStatus.ENDED if before.status is ReservationStatus.ACTIVE else ReservationStatus.CANCELLED
        if order.plan.legs:
            await self._save(tx, before, order.plan, live=False)
        else:
            await self.reservations.store.free_legs(tx, before.id)
        reason = Reason(ReasonCode.CANCELLED_BY_CUSTOMER, "Its customer has cancelled it.")
        values = {"ended_at": order.now, "version": before.version + 1}
        assert await self.reservations.move(tx, before, after, reason, values), "its row is locked"
        done = await self._told(tx, order)
        await self.billing.reserved.close(tx, before.id, order.now, order.plan.fee)
        return done

    async def _reshape(self, tx: Tx, order: _Order) -> Reservation:
        """Other legs at a price that keeps what was agreed on."""
        before, plan = order.before, order.plan
        assert plan.price is not None
        await self._save(tx, before, plan)
        supply = self.reservations.supply(keys_of(before, plan.legs))
        await self.reservations.store.require(tx, before.id, order.now, supply)
        await self.reservations.store.set(
            tx, before.project, before.id, {"version": before.version + 1, "updated_at": order.now}
        )
        done = await self._told(tx, order)
        await self.billing.reserved.change(
            tx, before.id, before.project, priced(plan.legs, before.sku), plan.price, order.now
        )
        await self.billing.reserved.charge_fee(tx, before.id, plan.fee, f"{order.quote.kind} of {before.id}")
        return done

    async def _split(self, tx: Tx, order: _Order) -> Changed:
        before, plan = order.before, order.plan
        made = [self._part(order, number, part) for number, part in enumerate(plan.parts, 1)]
        if plan.legs:
            await self._save(tx, before, plan)
            await self.reservations.store.set(
                tx, before.project, before.id, {"version": before.version + 1, "updated_at": order.now}
            )
        else:
            await self.reservations.store.free_legs(tx, before.id)
            reason = Reason(ReasonCode.ALL_SPLIT_OFF, "All of its nodes went to other reservations.")
            values = {"ended_at": order.now, "version": before.version + 1}
            moved = await self.reservations.move(tx, before, ReservationStatus.CANCELLED, reason, values)
            assert moved, "its row is locked"
        for one in made:
            await self.reservations.store.insert_split(tx, one, order.principal.key_id)
            data = {"parent": before.id, "reason": {"code": one.reason_code, "message": one.reason}}
            await self.reservations.record(tx, one, "reservation.confirmed", data)
        done = await self._told(tx, order, [one.id for one in made])
        if plan.price is not None:
            legs = priced(plan.legs, before.sku)
            await self.billing.reserved.change(tx, before.id, before.project, legs, plan.price, order.now)
        else:
            await self.billing.reserved.close(tx, before.id, order.now)
        for one in made:
            principal = replace(order.principal, organization_id=before.organization)
            await self.billing.reserved.open(
                tx, principal, one.id, one.project, priced(one.legs, one.sku), one.price, parent=before.id
            )
        return Changed(done, tuple(made))

    def _part(self, order: _Order, number: int, part: PartLegs) -> Reservation:
        before = order.before
        return replace(
            before,
            id=ReservationId(self.new_id("res")),
            project=part.project,
            name=f"{before.name}-{number}",
            status=ReservationStatus.CONFIRMED,
            reason_code=ReasonCode.SPLIT_OFF,
            reason=f"It was a part of {before.id}.",
            legs=self.reservations.admissions.with_ids(part.legs),
            price=part.price,
            energy=part.energy,
            created_at=order.now,
            updated_at=order.now,
            version=1,
            parent=before.id,
            confirmed_at=order.now,
        )

    async def _save(self, tx: Tx, before: Reservation, plan: ChangePlan, *, live: bool = True) -> None:
        """Its legs, and what its row repeats of them."""
        legs: Sequence[Leg] = self.reservations.admissions.with_ids(plan.legs)
        after = replace(before, legs=tuple(legs), price=plan.price or before.price, energy=plan.energy)
        await self.reservations.store.put_legs(tx, after, live=live)
        await self.reservations.store.set(tx, before.project, before.id, fields_of_legs(after))

    async def _told(self, tx: Tx, order: _Order, created: Sequence[str] = ()) -> Reservation:
        """The event and the word to the binder; the reservation as it is now."""
        found = await self.reservations.store.find(tx, order.before.project, order.before.id)
        assert found is not None
        plan = order.plan
        data: dict[str, object] = {
            "kind": order.quote.kind.value,
            "charge": {"amount": plain(plan.charge), "currency": plan.currency},
            "refund": {"amount": plain(plan.refund), "currency": plan.currency},
            "fee": {"amount": plain(plan.fee), "currency": plan.currency},
            "start": rfc3339(found[0].start),
            "end": rfc3339(found[0].end),
            "node_seconds": found[0].node_seconds,
            "legs": [{"leaf": leg.leaf_name, "nodes": leg.nodes} for leg in found[0].legs],
        }
        if created:
            data["created"] = list(created)
        await self.reservations.record(tx, found[0], "reservation.changed", data)
        await self.reservations.deliveries.wake(tx, found[0].id)
        return found[0]

    async def _refuse(self, principal: Principal, quote: ChangeQuote) -> NoReturn:
        try:
            fresh = await self.quote(principal, quote.reservation, quote.ask)
        except SkerryError as trouble:
            raise ChangeLapsed(
                "The change quote is good no longer, and the change is not possible any more.",
                suggestion=trouble.suggestion or trouble.detail,
                extra={"quote": None},
            ) from None
        raise ChangeLapsed(
            "The change quote has lapsed, was used, or the reservation has changed since.",
            suggestion="Apply the fresh quote.",
            extra={"quote": fresh},
        )
