"""What the compiler of calendar and placement imports when it first works: all of it, now, since later its folders may
be closed."""

from typing import Any

import numpy.ma
from numba.core import boxing, registry
from numba.core.runtime import context

from skerry.capacity.calendar import calendar, warming
from skerry.capacity.placement import warming as placement

LOADED = (calendar, warming, placement, boxing, context, numpy.ma)


def load() -> None:
    """Half a second of CPU time; nothing is compiled."""
    target: Any = registry.cpu_target
    target.typing_context.refresh()
    target.target_context.refresh()
