"""Are some fields of a request set? Asked of every request, so by one call into C."""

import operator
from typing import Any


class FieldsUnset:
    """Whether none of some fields is set, asked of every request: one call into C."""

    def __init__(self, names: frozenset[str]) -> None:
        # Two more names that are never set make sure that there is a tuple to compare.
        self.names = tuple(sorted(names))
        self._read = operator.attrgetter(*self.names, "never", "never")
        self._unset = (None,) * (len(self.names) + 2)

    def __call__(self, request: Any) -> bool:
        return bool(self._read(request) == self._unset)

    def set_ones(self, request: Any) -> list[str]:
        return [name for name in self.names if getattr(request, name) is not None]
