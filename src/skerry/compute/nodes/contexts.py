"""What a task's wrapper needs beside the workload's spec."""

from collections.abc import Mapping
from dataclasses import dataclass

from skerry.artifacts.files.errors import UnknownFile
from skerry.artifacts.files.service import Files
from skerry.artifacts.sources import SOURCE
from skerry.compute.engines.base import BadGang
from skerry.compute.isolation import Isolation
from skerry.compute.model import Attempt, Workload
from skerry.compute.nodes.tokens import NodeCaller, NodeTokens
from skerry.compute.nodes.users import ProjectUsers
from skerry.compute.task.order import SourceOrder
from skerry.compute.task.wrapping import Roots, WrapContext, Wrapped, wrapped
from skerry.db.database import Database, Tx
from skerry.kernel.ids import FileId, ProjectId


@dataclass(frozen=True, slots=True)
class NodeSide:
    """What nodes of one engine are like: where they find the control API, and where folders lie."""

    api_url: str
    roots: Roots
    python: str
    sandbox_trusted: bool = True


class TaskContexts:
    """`sides` by the engine's name."""

    def __init__(
        self,
        db: Database,
        files: Files,
        tokens: NodeTokens,
        users: ProjectUsers,
        isolation: Isolation,
        sides: Mapping[str, NodeSide],
    ) -> None:
        self._db = db
        self._files = files
        self._tokens = tokens
        self._users = users
        self._isolation = isolation
        self._sides = sides

    async def wrap(self, workload: Workload, attempt: Attempt, files: Mapping[str, str]) -> Wrapped:
        """What to start in the place of the workload's command; `files` are its secret ones.

        Raises BadGang for a source that is gone and for mounts that this installation does not have.
        """
        try:
            return wrapped(workload.spec, attempt, await self.of(workload, attempt), files)
        except ValueError as error:
            raise BadGang(f"{error}.") from error

    async def of(self, workload: Workload, attempt: Attempt) -> WrapContext:
        """Raises BadGang."""
        side = self._sides[attempt.engine]
        async with self._db.transaction() as tx:
            return WrapContext(
                api_url=side.api_url,
                token=self._tokens.issue(NodeCaller(workload.project, workload.id, attempt.id)),
                roots=side.roots,
                user=await self._users.of(tx, workload.project),
                source=await self._source(tx, workload.project, workload.spec.source),
                trusted=await self._isolation.trusted(tx, workload.project),
                python=side.python,
                sandbox_trusted=side.sandbox_trusted,
            )

    async def _source(self, tx: Tx, project: ProjectId, id: str | None) -> SourceOrder | None:
        if id is None:
            return None
        try:
            file = await self._files.require(tx, project, FileId(id))
        except UnknownFile as error:
            raise BadGang(f"Its source {id} was deleted: upload it again and make it anew.") from error
        if file.purpose != SOURCE:
            raise BadGang(f"Its source {id} is a file of purpose {file.purpose}, not {SOURCE}.")
        return SourceOrder(file.id, file.filename, file.bytes, file.sha256)
