"""Handing reserved nodes over: a node is there for its holder when the engine that has it says that it takes work."""

from collections.abc import Mapping, Sequence
from typing import Final

from skerry.capacity.binding.model import BindingReason, Handover
from skerry.compute.changes import KIND
from skerry.compute.engines.base import Engine, EngineUnavailable, NodeCondition, NodeState
from skerry.compute.model import ReasonCode
from skerry.compute.store import Work
from skerry.db.database import Database
from skerry.db.notify import WORK, notify
from skerry.fleet.model import Node
from skerry.kernel.clock import Clock
from skerry.kernel.ids import NodeId
from skerry.runtime.outbox import Message

WAITING: Final = (
    ReasonCode.NO_NODE,
    ReasonCode.NO_CAPACITY,
    ReasonCode.RESERVATION_NOT_READY,
    ReasonCode.RESERVATION_FULL,
)
"""Work that waits for one of these may find nodes when a reservation has begun or ended."""


class EngineDeliverer:
    """Asks engines; makes nothing on them. Implements `Deliverer` of capacity."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    async def look(self, nodes: Sequence[Node]) -> Mapping[NodeId, Handover]:
        """A word on each of these nodes. An engine that does not answer might have those that no other has."""
        states: dict[str, NodeState] = {}
        silent: list[EngineUnavailable] = []
        for engine in self._engines.values():
            try:
                states |= {state.name: state for state in await engine.nodes()}
            except EngineUnavailable as error:
                silent.append(error)
        return {node.id: _word(node, states.get(node.hostname), silent) for node in nodes}


def _word(node: Node, state: NodeState | None, silent: Sequence[EngineUnavailable]) -> Handover:
    if state is None and silent:
        return Handover(False, BindingReason.ENGINE_UNAVAILABLE, silent[0].detail)
    if state is None:
        return Handover(False, BindingReason.NO_ENGINE, f"No engine has node {node.hostname}.")
    if state.condition is not NodeCondition.READY:
        why = f" ({state.reason})" if state.reason else ""
        return Handover(False, BindingReason.NODE_NOT_READY, f"Node {node.hostname} is {state.condition}{why}.")
    return Handover(True)


class ReservationNews:
    """A reservation has become another: work that waits for nodes is looked at again. Handler of the outbox."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._work = Work()

    async def changed(self, message: Message) -> None:
        async with self._db.transaction() as tx:
            hinted = [await self._work.hint_waiting(tx, self._clock.now(), code) for code in WAITING]
            if any(hinted):
                await notify(tx, WORK, KIND)
