"""What capacity has bound to a reservation is set aside on engines that others use too, read back, and given back.

Level-triggered: what is to be set aside follows from the claims there are, what is from the engine. The engine's
reservation has the id of ours as its name.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import structlog

from skerry.capacity.binding.model import BoundNode
from skerry.compute.engines.base import Engine, EngineRefused, EngineUnavailable, NodeReservation
from skerry.db.database import Database, Tx
from skerry.db.errors import DatabaseUnavailable
from skerry.fleet.service import Fleet
from skerry.kernel.ids import ReservationId

PREFIX: Final = "res_"
_TIDY_SECONDS: Final = 5.0


class Bindings(Protocol):
    """What is needed of capacity."""

    async def bound(self, tx: Tx, reservation: ReservationId) -> list[BoundNode]: ...


class SettingAside:
    """Both `make` and `tidy` may be called at any time, by several controllers at once."""

    def __init__(self, db: Database, fleet: Fleet, bindings: Bindings, engines: Mapping[str, Engine]) -> None:
        self._db = db
        self._fleet = fleet
        self._bindings = bindings
        self._engines = engines
        self._log = structlog.get_logger("skerry.compute")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.tidy()
            except (EngineUnavailable, DatabaseUnavailable) as error:
                self._log.info("reservations_put_off", reason=error.code)
            await asyncio.sleep(_TIDY_SECONDS)

    async def make(self, reservation: ReservationId, hostnames: Collection[str]) -> Mapping[str, str]:
        """Of these nodes, those that could not be set aside for it, and why. Others it has are set aside with them."""
        failed: dict[str, str] = {}
        for engine in await self._shared():
            names: Sequence[str] = tuple(hostnames)
            try:
                names = [node.name for node in await engine.nodes()]
                wanted = await self._wanted(reservation, names)
                if wanted is not None and set(wanted.nodes) & set(hostnames):
                    await engine.reserve(wanted)
            except (EngineRefused, EngineUnavailable) as error:
                failed |= {name: f"It could not be set aside: {error.detail}" for name in hostnames if name in names}
        return failed

    async def tidy(self) -> None:
        """Give back what is not bound any more, and follow what is bound otherwise by now."""
        for engine in await self._shared():
            made = [one for one in await engine.reservations() if one.name.startswith(PREFIX)]
            if not made:
                continue
            names = [node.name for node in await engine.nodes()]
            for one in made:
                wanted = await self._wanted(ReservationId(one.name), names)
                try:
                    if wanted is None:
                        await engine.release(one.name)
                    elif (set(wanted.nodes), wanted.end) != (set(one.nodes), one.end):
                        await engine.reserve(wanted)
                except EngineRefused as error:
                    self._log.warning("reservation_not_amended", reservation=one.name, why=error.detail)

    async def _shared(self) -> Sequence[Engine]:
        found = []
        for engine in self._engines.values():
            try:
                if (await engine.capabilities()).sets_aside:
                    found.append(engine)
            except EngineUnavailable:
                continue
        return found

    async def _wanted(self, reservation: ReservationId, names: Sequence[str]) -> NodeReservation | None:
        async with self._db.reading() as tx:
            hostnames = {node.id: name for name, node in (await self._fleet.find_nodes(tx, names)).items()}
            bound = [one for one in await self._bindings.bound(tx, reservation) if one.node in hostnames]
        if not bound:
            return None
        return NodeReservation(
            name=reservation,
            nodes=tuple(sorted({hostnames[one.node] for one in bound})),
            start=min(one.start for one in bound),
            end=max(one.end for one in bound),
            amend=True,
        )
