"""The Slurm engine behind the agent's door, and its callers' side of it.

Reservations, drains and jobs of other users are for root or Slurm's own user. So the agent, which keeps root, has the
engine, and server and controller call it as they call the embedded one.
"""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from skerry.compute.engines.base import GangState
from skerry.compute.engines.embedded.client import EmbeddedEngine
from skerry.compute.engines.slurm.engine import SlurmEngine
from skerry.kernel.ids import AttemptId


class SlurmClient(EmbeddedEngine):
    """The same door and the same verbs."""

    name: ClassVar[str] = "slurm"


class ServedSlurm:
    """Jobs are not tied to the agent's life: when it stops, they go on, and it finds them again."""

    def __init__(self, engine: SlurmEngine) -> None:
        self._engine = engine
        self.capabilities = engine.capabilities
        self.nodes = engine.nodes
        self.submit = engine.submit
        self.known = engine.known
        self.logs = engine.logs
        self.signal = engine.signal
        self.cancel = engine.cancel
        self.forget = engine.forget
        self.drain = engine.drain
        self.resume = engine.resume
        self.reserve = engine.reserve
        self.release = engine.release
        self.reservations = engine.reservations
        self.fence = engine.fence
        self.events = engine.events

    async def observe(self, attempts: Sequence[AttemptId]) -> Sequence[GangState]:
        return tuple((await self._engine.observe(attempts)).values())

    def recover(self) -> None:
        """The engine reads its records when it is made."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Nothing to do: see above."""

    def abandon(self) -> None:
        """Nothing to do: see above."""
