"""The door of the node API: a FastAPI dependency that lets in whoever shows the token of an open attempt."""

from collections.abc import Awaitable, Callable

from fastapi import Request

from skerry.compute.nodes.tokens import AttemptEnded, NodeCaller, NodeTokens
from skerry.compute.store import WorkloadStore
from skerry.db.database import Database
from skerry.identity.rules import bearer_token

Gate = Callable[[Request], Awaitable[NodeCaller]]


class NodeAccess:
    """Routes write `Depends(access.caller)`. Errors: 401 bad_node_token, attempt_ended. API keys open nothing here."""

    def __init__(self, db: Database, tokens: NodeTokens) -> None:
        self._db = db
        self._tokens = tokens
        self._store = WorkloadStore()

    async def caller(self, request: Request) -> NodeCaller:
        found = self._tokens.read(bearer_token(request.headers.get("authorization")))
        async with self._db.reading() as tx:
            attempt = await self._store.find_attempt(tx, found.project, found.attempt)
        if attempt is None or attempt.ended_at is not None or attempt.workload != found.workload:
            raise AttemptEnded
        return found
