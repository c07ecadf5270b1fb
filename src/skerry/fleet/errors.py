"""Refusals of the fleet."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from skerry.fleet.file.model import Mistake
from skerry.fleet.model import Endangered
from skerry.kernel.clock import rfc3339
from skerry.kernel.errors import Conflict, FieldError, Invalid, NotFound

MOST_MISTAKES: Final = 100
"""Of one file that are told."""


class UnknownFleetThing(NotFound):
    """No site, hall, leaf, SKU, node, delivery or maintenance of that name or id."""

    def __init__(self, kind: str, ref: str) -> None:
        super().__init__(
            f"There is no {kind} {ref!r}.",
            code=f"unknown_{kind}",
            suggestion=f"List them to see names and ids; a {kind} goes by either.",
        )


class BadFleetField(Invalid):
    """A field that names something unknown, or has a value that cannot be."""

    def __init__(self, path: str, code: str, message: str) -> None:
        super().__init__(message, code=code, errors=[FieldError(path, code, message)])


class BreaksReservations(Conflict):
    """A change that would leave confirmed reservations short, and was not forced."""

    def __init__(self, endangered: Sequence[Endangered]) -> None:
        count = len({one.reservation for one in endangered})
        several = "a confirmed reservation" if count == 1 else f"{count} confirmed reservations"
        super().__init__(
            f"This would leave {several} short: {'; '.join(map(words, endangered[:5]))}{' …' * (len(endangered) > 5)}.",
            code="breaks_reservations",
            suggestion="Choose another time or other nodes, move the reservations, or say `force`.",
            extra={"reservations": [wire(one) for one in endangered]},
        )


class NodeMoved(Conflict):
    """Somebody else changed the node at the same time."""

    def __init__(self, hostname: str) -> None:
        super().__init__(
            f"{hostname} has changed meanwhile.", code="node_changed", suggestion="Look at it again, then decide."
        )


class BadFleetFile(Invalid):
    """A fleet file with mistakes: all of them, each with its line. Nothing of it was applied."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        shown = mistakes[:MOST_MISTAKES]
        several = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        more = f"; the first {MOST_MISTAKES} are shown" if len(shown) < len(mistakes) else ""
        super().__init__(
            f"The fleet file has {several}{more}. Nothing was applied.",
            code="bad_fleet_file",
            suggestion="Mend these lines and try again.",
            errors=[FieldError(f"line {one.line}", one.code, _with_path(one)) for one in shown],
            extra={"lines": [asdict(one) for one in shown]},
        )


class SoldOrBound(Conflict):
    """A fleet file that takes away what is sold or in use."""

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__(
            "The fleet file takes away what is sold or in use. Nothing was applied.",
            code="sold_or_bound",
            suggestion="Leave these in the file, or move what stands on them first.",
            errors=[FieldError("document", "sold_or_bound", sentence) for sentence in sentences],
        )


class NameTaken(Conflict):
    """There is one of that name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"There is a {kind} {name!r} already.", code="name_taken", suggestion="Choose another name, or change it."
        )


def words(one: Endangered) -> str:
    """`res_1 lacks 2 nodes in no-a-1 from 2026-01-01T00:00:00Z on`."""
    nodes = "node" if one.nodes_short == 1 else "nodes"
    return f"{one.reservation} lacks {one.nodes_short} {nodes} in {one.leaf_name} from {rfc3339(one.starts)} on"


def wire(one: Endangered) -> dict[str, Any]:
    return {
        "reservation": one.reservation,
        "project": one.project,
        "starts": rfc3339(one.starts),
        "leaf": one.leaf_name,
        "nodes_short": one.nodes_short,
    }


def _with_path(one: Mistake) -> str:
    return f"{one.path}: {one.message}" if one.path else one.message
