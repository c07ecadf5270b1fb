"""`Idempotency-Key` on the control API: the same creating request, sent twice, is done once."""

import asyncio
import json
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skerry.db.database import Database, Tx
from skerry.identity.access import Access
from skerry.identity.model import Principal
from skerry.identity.rules import SECRET_PREFIX
from skerry.kernel.errors import FieldError, Malformed, SkerryError
from skerry.runtime.idempotency import KEY_MAX, Idempotency, Stored, hash_body
from skerry.server.errors import Rendered, render
from skerry.server.http import OPENAI_PREFIX, PREFIX, send_rendered

HEADER: Final = b"idempotency-key"
REPLAYED: Final = "idempotent-replayed"
BATCHES: Final = f"{OPENAI_PREFIX}/batches"
"""The one creating path of `/v1` that costs money and is not hot."""

_AT_ONCE: Final = 4
"""Each holds one connection while the use case takes another: more could eat up the pool between them."""


class IdempotentPosts:
    """Holds the key's row in a transaction while the request is worked on.

    A duplicate waits for it. An answer other than 2xx is not kept, so that the request may be tried again; nor is it
    when this process dies. Should it die after the use case has committed, a later try does it again: only what is
    finished in its own transaction could promise more.
    """

    def __init__(self, app: ASGIApp, db: Database, access: Access, keys: Idempotency) -> None:
        self.app = app
        self.db = db
        self.access = access
        self.keys = keys
        self.slots = asyncio.Semaphore(_AT_ONCE)
        self.log = structlog.get_logger("skerry.server.idempotency")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = _header(scope)
        if given is None:
            await self.app(scope, receive, send)
            return
        try:
            key = _checked(given)
        except SkerryError as error:
            await send_rendered(send, render(error, scope["path"]))
            return
        principal = await self._principal(scope)
        if principal is None:
            await self.app(scope, receive, send)  # it will be refused, in the words of the app
            return
        answer = _Collected()
        try:
            async with self.slots:
                stored = await self._once(scope, receive, answer, principal, key)
        except SkerryError as error:
            if answer.complete:
                # The work is done; only the memory of it could not be kept.
                self.log.warning("idempotency_not_kept", error=error.code)
                await answer.send_to(send)
            else:
                await send_rendered(send, render(error, scope["path"]))
            return
        if stored is None:
            await answer.send_to(send)
        else:
            await send_rendered(send, _replayed(stored))

    async def _once(
        self, scope: Scope, receive: Receive, answer: "_Collected", principal: Principal, key: str
    ) -> Stored | None:
        """The stored answer, or None when the request was worked on now and is in `answer`."""
        # A key names a request of one API key: what another one's may show is not this one's to see.
        own_key = sha256(f"{principal.key_id}\n{key}".encode()).hexdigest()
        route = f"POST {scope['path']}?{scope['query_string'].decode('latin-1')}"
        digest = hash_body(scope["state"]["body"])
        try:
            async with self.db.transaction() as tx:
                if stored := await self.keys.begin(tx, principal.project_id, own_key, route, digest):
                    return stored
                await self.app(scope, receive, answer)
                await self._keep(tx, answer, principal, own_key, route, digest)
        except _NotKept:
            pass
        return None

    async def _keep(
        self, tx: Tx, answer: "_Collected", principal: Principal, key: str, route: str, digest: bytes
    ) -> None:
        if not 200 <= answer.status < 300:
            raise _NotKept
        body = _without_secret(json.loads(answer.body)) if answer.body else None
        await self.keys.finish(tx, principal.project_id, key, route, digest, status=answer.status, body=body)

    async def _principal(self, scope: Scope) -> Principal | None:
        """Whose request it is, in which project; None where the app would refuse it."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        try:
            principal = await self.access.principal(Request(scope))
            return await self.access.within(principal, query.get("project"))
        except SkerryError:
            return None


class _NotKept(Exception):
    """Rolls the key's row back."""


class _Collected:
    """An answer held back until its fate is settled."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.status = 0
        self.complete = False

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not message.get("more_body", False):
            self.complete = True

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    async def send_to(self, send: Send) -> None:
        for message in self.messages:
            await send(message)


def _header(scope: Scope) -> bytes | None:
    if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith((PREFIX, BATCHES)):
        return None
    return next((value for name, value in scope["headers"] if name == HEADER), None)


def _checked(given: bytes) -> str:
    key = given.decode("latin-1")
    if 1 <= len(key) <= KEY_MAX and key.isprintable() and key.strip():
        return key
    message = f"Idempotency-Key must be 1 to {KEY_MAX} printable characters"
    raise Malformed(message, errors=[FieldError("Idempotency-Key", "bad_idempotency_key", message)])


def _without_secret(body: Any) -> Any:
    """A secret is shown once, and never stored: a replay has null in its place."""
    if isinstance(body, dict) and isinstance(body.get("key"), str) and body["key"].startswith(SECRET_PREFIX):
        return {**body, "key": None}
    return body


def _replayed(stored: Stored) -> Rendered:
    body = b"" if stored.body is None else json.dumps(stored.body, separators=(",", ":")).encode()
    return Rendered(stored.status, body, {"content-type": "application/json", REPLAYED: "true"})
