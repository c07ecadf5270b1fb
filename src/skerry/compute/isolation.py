"""I11: code of projects that are not trusted runs only where its engine can keep it apart from everything else."""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Final

from skerry.compute.engines.base import Engine, EngineUnavailable
from skerry.compute.model import WorkloadSpec
from skerry.db.database import Tx
from skerry.identity.service import Identity
from skerry.kernel.errors import Unavailable
from skerry.kernel.ids import ProjectId

_FRESH_SECONDS: Final = 30.0


class IsolationUnavailable(Unavailable):
    """No engine of this installation can run it, as its project is not trusted."""

    code = "isolation_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "Nothing here can keep the code of this project apart from that of others: it is not run.",
            suggestion="Your operator can install bubblewrap on the nodes, or mark the project as trusted.",
            retry_after=300,
        )


class Isolation:
    """Asks engines now and then, and remembers what they said last."""

    def __init__(self, identity: Identity, engines: Mapping[str, Engine]) -> None:
        self._identity = identity
        self._engines = engines
        self._isolates: dict[str, bool] = {}
        self._asked_at = 0.0

    async def require(self, tx: Tx, project: ProjectId) -> None:
        """For products, before they make a workload of a customer's code. While no engine has answered yet, nothing is
        refused: placement asks again.

        Raises IsolationUnavailable, UnknownProject.
        """
        await self.look()
        if not await self._where(tx, project):
            raise IsolationUnavailable

    async def look(self) -> None:
        """Ask the engines, where that was not done just now. Not within a lock: it may take seconds."""
        if self._isolates and monotonic() - self._asked_at < _FRESH_SECONDS:
            return
        names = list(self._engines)
        answers = await asyncio.gather(*(self._ask(self._engines[name]) for name in names))
        self._isolates |= {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}
        self._asked_at = monotonic()

    async def engines_for(self, tx: Tx, project: ProjectId, spec: WorkloadSpec) -> frozenset[str]:
        """For placement, after `look`: names of the engines where it may run, by what they said last."""
        return await self._where(tx, project) if spec.customer_code else frozenset(self._engines)

    async def trusted(self, tx: Tx, project: ProjectId) -> bool:
        return (await self._identity.project(tx, project)).trusted

    async def _where(self, tx: Tx, project: ProjectId) -> frozenset[str]:
        everywhere = frozenset(self._engines)
        if not self._isolates or await self.trusted(tx, project):
            return everywhere
        return frozenset(name for name in everywhere if self._isolates.get(name, False))

    async def _ask(self, engine: Engine) -> bool | None:
        try:
            return (await engine.capabilities()).isolation
        except EngineUnavailable:
            return None
