"""`Idempotency-Key`: the same request sent twice is done once and answered twice."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from skerry.db.database import Tx
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Conflict, FieldError, Malformed
from skerry.kernel.ids import ProjectId
from skerry.runtime.tables import idempotency_keys as keys

KEY_MAX: Final = 255
KEPT: Final = timedelta(hours=24)
_ABANDONED: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer that was given the first time."""

    status: int
    body: Any


class Idempotency:
    """Begin and finish in the transaction of the use case, and nothing can come between. Where they are apart, a
    request that died in the middle blocks its key for two minutes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def begin(self, tx: Tx, project: ProjectId, key: str, route: str, body_hash: bytes) -> Stored | None:
        """None: go on, and call `finish`. Waits while another transaction holds the same key.

        Raises Conflict `idempotency_key_reused` where the key was used for something else, `idempotency_key_in_use`
        where its first request is not done yet; Malformed for a key that is none.
        """
        _require_key(key)
        now = self.clock.now()
        fresh = {"route": route, "body_hash": body_hash, "status": None, "body": None, "created_at": now}
        # A key that is too old counts as new; that it may be overwritten is decided under its row's lock.
        claim = (
            insert(keys)
            .values(project=project, key=key, **fresh)
            .on_conflict_do_update(
                index_elements=[keys.c.project, keys.c.key],
                set_=fresh,
                where=(keys.c.created_at < now - KEPT)
                | (
                    keys.c.status.is_(None)
                    & (keys.c.created_at < now - _ABANDONED)
                    & (keys.c.route == route)
                    & (keys.c.body_hash == body_hash)
                ),
            )
            .returning(keys.c.key)
        )
        if (await tx.execute(claim)).first() is not None:
            return None
        found = (await tx.execute(select(keys).where(keys.c.project == project, keys.c.key == key))).one()
        if found.route != route or found.body_hash != body_hash:
            raise Conflict(
                "This Idempotency-Key was used for another request.",
                suggestion="Use a new key for each different request.",
                code="idempotency_key_reused",
            )
        if found.status is None:
            raise Conflict(
                "The first request with this Idempotency-Key is still being worked on.",
                suggestion="Send it again in a moment.",
                code="idempotency_key_in_use",
                retry_after=1,
            )
        return Stored(found.status, found.body)

    async def finish(
        self, tx: Tx, project: ProjectId, key: str, route: str, body_hash: bytes, *, status: int, body: Any
    ) -> None:
        """Keep the answer for 24 hours. `body` (JSON) is what a replay will show: leave out what is shown only once."""
        await tx.execute(
            update(keys)
            .where(
                keys.c.project == project,
                keys.c.key == key,
                keys.c.route == route,
                keys.c.body_hash == body_hash,
            )
            .values(status=status, body=body)
        )

    async def forget(self, tx: Tx) -> int:
        """Drop keys older than 24 hours; returns how many went."""
        gone = await tx.execute(delete(keys).where(keys.c.created_at < self.clock.now() - KEPT))
        return gone.rowcount


def hash_body(body: bytes) -> bytes:
    return sha256(body).digest()


def _require_key(key: str) -> None:
    if 1 <= len(key) <= KEY_MAX and key.isprintable():
        return
    message = f"Idempotency-Key must be 1 to {KEY_MAX} printable characters"
    raise Malformed(message, errors=[FieldError("Idempotency-Key", "bad_idempotency_key", message)])
