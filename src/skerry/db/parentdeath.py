"""A child that does not outlive its parent, however the parent dies (Linux; elsewhere nothing is done)."""

import ctypes
import os
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(how: int) -> Callable[[], None]:
    """A `preexec_fn` that asks for signal `how` at the end of the *thread* that starts the child.

    It has to run after a change of user, which forgets the wish; `subprocess` calls `preexec_fn` then.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, how)
        if os.getppid() != parent:  # it died before we could ask
            os._exit(1)

    return ask
