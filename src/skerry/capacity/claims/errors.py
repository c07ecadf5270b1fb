"""What can go wrong with claims."""

from skerry.kernel.errors import Conflict


class NodeTaken(Conflict):
    """The exclusion constraint refused: somebody has this node, or this part of it, at some moment of the window.

    Where leaves are locked and claims read first, this is a defect; it is never an oversale. The transaction goes on:
    the insert was undone by itself.
    """

    code = "node_taken"

    def __init__(self) -> None:
        super().__init__(
            "A node that was chosen has been taken in the meantime.", suggestion="Try again: another node is chosen."
        )
