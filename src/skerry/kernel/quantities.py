"""Integer quantities in base units, and how to share one without losing any."""

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K", bound=str)

QUANTITY_MAX = 2**63 - 1


def require_quantity(value: int, name: str = "quantity") -> int:
    """The value itself. Raises ValueError for what is no integer of 64 bits (booleans are none)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be an integer, not {type(value).__name__}")
    if abs(value) > QUANTITY_MAX:
        raise ValueError(f"{name} does not fit 64 bits")
    return value


def largest_remainder(total: int, weights: Mapping[K, int]) -> dict[K, int]:
    """Share `total` by weight so that the parts are integers and their sum is `total` (Hamilton's method).

    Ties go to the smaller key, so that the answer depends on nothing else. With no weight at all everyone gets 0 and
    the total must be 0; raises ValueError otherwise, and for negative weights.
    """
    if any(w < 0 for w in weights.values()):
        raise ValueError("weights cannot be negative")
    whole = sum(weights.values())
    if whole == 0:
        if total:
            raise ValueError("nothing to share by: all weights are zero")
        return {k: 0 for k in weights}
    shares = {k: divmod(total * w, whole) for k, w in weights.items()}
    left = total - sum(floor for floor, _ in shares.values())
    by_rest = sorted(weights, key=lambda k: (-shares[k][1], k))
    extra = set(by_rest[:left])
    return {k: floor + (k in extra) for k, (floor, _) in shares.items()}
