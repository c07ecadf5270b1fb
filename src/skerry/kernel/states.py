"""State machines: which status may follow which."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from skerry.kernel.errors import Conflict

S = TypeVar("S", bound=StrEnum)


class IllegalTransition(Conflict):
    code = "illegal_transition"


class StateMachine(Generic[S]):
    """The transition table of one status. Every value must have a row, an end state an empty one."""

    def __init__(self, table: Mapping[S, set[S]]) -> None:
        if not table:
            raise ValueError("a state machine needs states")
        missing = set(type(next(iter(table)))) - set(table)
        if missing:
            raise ValueError(f"no row for {', '.join(sorted(missing))}")
        self._table = {state: frozenset(after) for state, after in table.items()}

    def allows(self, before: S, after: S) -> bool:
        return after in self._table[before]

    def after(self, state: S) -> frozenset[S]:
        return self._table[state]

    def is_final(self, state: S) -> bool:
        return not self._table[state]

    def require(self, before: S, after: S, what: str = "it") -> None:
        """Raises IllegalTransition where the table has no such step."""
        if not self.allows(before, after):
            may = ", ".join(sorted(self._table[before])) or "nothing: it is final"
            raise IllegalTransition(f"{what} is {before} and cannot become {after}; from here it can become {may}")
