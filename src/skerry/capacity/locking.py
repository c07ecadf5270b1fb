"""One lock for each (leaf, SKU): whoever admits, changes, binds or claims there holds it until its transaction ends.

Take all of them in one call, before anything is counted. Read afterwards, in statements of their own: only these see
what was committed while the lock was waited for.
"""

from collections.abc import Iterable
from hashlib import blake2b

from sqlalchemy import text

from skerry.capacity.calendar.model import LeafKey
from skerry.db.database import Tx

# One statement; unnest gives them in the array's order.
_LOCK = text("SELECT pg_advisory_xact_lock(number) FROM unnest(cast(:numbers AS bigint[])) AS number")


async def lock_leaves(tx: Tx, keys: Iterable[LeafKey]) -> None:
    """Wait for and hold the locks of all these leaves, in an order that is the same for everybody."""
    numbers = lock_numbers(keys)
    if numbers:
        await tx.execute(_LOCK, {"numbers": numbers})


def lock_numbers(keys: Iterable[LeafKey]) -> list[int]:
    """The numbers of their locks in the order in which to take them, each once."""
    return sorted({_number("leaf", key.leaf, key.sku) for key in keys})


def organization_lock(organization: str) -> int:
    """Of what an organization holds; taken before those of leaves."""
    return _number("holds", organization)


def _number(*parts: str) -> int:
    digest = blake2b("\x1f".join(("skerry.capacity", *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
