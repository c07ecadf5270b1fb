"""Which of this machine's nodes are set aside for whom, and when."""

from collections.abc import Collection, Sequence
from datetime import datetime

from skerry.compute.engines.base import (
    EngineUnavailable,
    GangSpec,
    NodeNotReady,
    NodeReservation,
    ReservationRefused,
)
from skerry.compute.engines.embedded.records import StateFolder
from skerry.kernel.clock import Clock


class Reservations:
    """Kept on disk; those that are over are dropped."""

    def __init__(self, state: StateFolder, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._all = {one.name: one for one in state.reservations()}

    def all(self) -> Sequence[NodeReservation]:
        now = self._clock.now()
        return tuple(one for one in self._all.values() if one.end > now)

    def add(self, wanted: NodeReservation, nodes: Collection[str]) -> None:
        """All of its nodes, or none. Raises NodeNotReady, ReservationRefused, EngineUnavailable."""
        if missing := sorted(set(wanted.nodes) - set(nodes)):
            raise NodeNotReady(f"There is no node {missing[0]!r} here.")
        if not wanted.nodes or wanted.end <= max(wanted.start, self._clock.now()):
            raise ReservationRefused("A reservation has at least one node, and an end that is after its start and now.")
        for one in self.all():
            if one.name == wanted.name and not wanted.amend and not _same(one, wanted):
                raise ReservationRefused(f"Reservation {one.name} has other nodes or another window.")
            if one.name != wanted.name and _overlap(one, wanted):
                raise ReservationRefused(f"Reservation {one.name} has some of these nodes then.")
        self._save({**{one.name: one for one in self.all()}, wanted.name: wanted})

    def remove(self, name: str) -> None:
        if name in self._all:
            self._save({one.name: one for one in self.all() if one.name != name})

    def require(self, gang: GangSpec) -> None:
        """The gang may run now on the nodes it was placed on. Raises NodeNotReady, ReservationRefused."""
        now = self._clock.now()
        nodes = {placement.node for placement in gang.placements}
        for one in self.all():
            if one.name != gang.reservation and one.start <= now and (taken := nodes & set(one.nodes)):
                raise NodeNotReady(f"Node {min(taken)} is reserved until {one.end:%Y-%m-%dT%H:%M:%SZ}.")
        if gang.reservation is not None:
            self._require_inside(gang.reservation, nodes, now)

    def _require_inside(self, name: str, nodes: Collection[str], now: datetime) -> None:
        own = next((one for one in self.all() if one.name == name), None)
        if own is None or not set(nodes) <= set(own.nodes):
            raise ReservationRefused(f"Reservation {name} does not have these nodes.")
        if own.start > now:
            raise NodeNotReady(f"Reservation {name} begins at {own.start:%Y-%m-%dT%H:%M:%SZ}.")

    def _save(self, reservations: dict[str, NodeReservation]) -> None:
        try:
            self._state.save_reservations(list(reservations.values()))
        except OSError as error:
            raise EngineUnavailable(f"The agent cannot write its state: {error.strerror}.") from error
        self._all = reservations


def _same(one: NodeReservation, other: NodeReservation) -> bool:
    return (set(one.nodes), one.start, one.end) == (set(other.nodes), other.start, other.end)


def _overlap(one: NodeReservation, other: NodeReservation) -> bool:
    return bool(set(one.nodes) & set(other.nodes)) and one.start < other.end and other.start < one.end
