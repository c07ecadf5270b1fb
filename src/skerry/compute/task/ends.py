"""How the wrapper itself ends where there is nothing to run: with one line that says why, and a code that says whose
matter it is."""

from typing import Final

NO_ISOLATION: Final = 78
"""EX_CONFIG: what the task needs of its node is not to be had there."""
BAD_SOURCE: Final = 65
"""EX_DATAERR: the archive cannot be used."""


class CannotRun(Exception):
    """`code` None: it is our fault, and the attempt counts as lost."""

    def __init__(self, words: str, code: int | None = NO_ISOLATION) -> None:
        super().__init__(words)
        self.code = code
