"""Handing reserved nodes over: a node is there for its holder when the engine that has it says that it takes work."""

from collections.abc import Mapping, Sequence

from skerry.capacity.binding.model import BindingReason, Handover
from skerry.compute.changes import KIND
from skerry.compute.engines.base import Engine, EngineUnavailable, NodeCondition, NodeState
from skerry.compute.queueing import Queue
from skerry.compute.setting_aside import SettingAside
from skerry.db.database import Database
from skerry.db.notify import WORK, notify
from skerry.fleet.model import Node
from skerry.kernel.clock import Clock
from skerry.kernel.ids import NodeId, ReservationId
from skerry.runtime.outbox import Message


class EngineDeliverer:
    """Asks engines, and has those that others use too set the nodes aside. Implements `Deliverer` of capacity."""

    def __init__(self, engines: Mapping[str, Engine], aside: SettingAside | None = None) -> None:
        self._engines = engines
        self._aside = aside

    async def look(self, nodes: Sequence[Node], reservation: ReservationId | None = None) -> Mapping[NodeId, Handover]:
        """A word on each of these nodes. An engine that does not answer might have those that no other has."""
        states: dict[str, NodeState] = {}
        silent: list[EngineUnavailable] = []
        for engine in self._engines.values():
            try:
                states |= {state.name: state for state in await engine.nodes()}
            except EngineUnavailable as error:
                silent.append(error)
        words = {node.id: _word(node, states.get(node.hostname), silent) for node in nodes}
        if self._aside is None or reservation is None:
            return words
        failed = await self._aside.make(reservation, {node.hostname for node in nodes if words[node.id].ready})
        refused = {
            node.id: Handover(False, BindingReason.DELIVERY_FAILED, failed[node.hostname])
            for node in nodes
            if node.hostname in failed
        }
        return words | refused


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
        self._queue = Queue()

    async def changed(self, message: Message) -> None:
        async with self._db.transaction() as tx:
            if await self._queue.hint(tx, self._clock.now()):
                await notify(tx, WORK, KIND)
