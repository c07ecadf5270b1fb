"""Refusals of the fleet."""

from skerry.kernel.errors import NotFound


class UnknownFleetThing(NotFound):
    """No site, hall, leaf, SKU or node of that name or id."""

    def __init__(self, kind: str, ref: str) -> None:
        super().__init__(
            f"There is no {kind} {ref!r}.",
            code=f"unknown_{kind}",
            suggestion=f"List them to see names and ids; a {kind} goes by either.",
        )
