"""Compile or load the machine code of placement before somebody waits for it."""

from skerry.capacity.placement.board import Board
from skerry.capacity.placement.model import Machine, Task, Typical


def warm() -> None:
    """Call every kernel once. Some seconds when nothing is cached, else well below one; run it in a thread of its own.

    Also `python -m skerry.capacity.placement.warming`, where an installation is made whose folders are read-only later.
    """
    board = Board([Machine("a", "kind", 2, 0, 0), Machine("b", "kind", 2, 0, 0)], [Typical(Task(1), 1)])
    board.place(Task(1))
    board.place(Task(1, milli=500))
    board.place_all([Task(1)])


if __name__ == "__main__":
    warm()
