"""What the calendar's compiler imports when it first works: all of it, now, since later its folders may be closed."""

from typing import Any

import numpy.ma
from numba.core import registry

from skerry.capacity.calendar import calendar, warming

LOADED = (calendar, warming, numpy.ma)


def load() -> None:
    """Half a second of CPU time; nothing is compiled."""
    target: Any = registry.cpu_target
    target.typing_context.refresh()
    target.target_context.refresh()
