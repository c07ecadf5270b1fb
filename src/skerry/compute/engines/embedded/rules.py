"""What a gang must look like to be started here. Pure."""

import re
import signal
from collections.abc import Sequence
from typing import Final

from skerry.compute.engines.base import BadGang, GangSpec, Placement
from skerry.compute.engines.embedded.records import is_attempt_id

_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def require_sound(gang: GangSpec) -> None:
    """Raises BadGang, which says what is wrong."""
    if not is_attempt_id(gang.attempt):
        raise BadGang(f"{gang.attempt!r} is no attempt id.")
    if gang.tasks < 1 or any(placement.tasks < 1 for placement in gang.placements):
        raise BadGang("A gang needs at least one task on each of its nodes.")
    if not gang.command or not gang.command[0]:
        raise BadGang("The command is empty.")
    texts = [*gang.command, *gang.env.values()]
    if any("\0" in text for text in texts):
        raise BadGang("The command and its environment cannot contain NUL characters.")
    if wrong := [name for name in gang.env if not _VARIABLE.fullmatch(name)]:
        raise BadGang(f"{wrong[0]!r} is no name of an environment variable.")
    if wrong := [name for name in gang.files if not _FILE.fullmatch(name)]:
        raise BadGang(f"{wrong[0]!r} is no name of a secret file: letters, digits, dot, dash and underscore only.")
    limits = gang.limits
    sizes = (limits.memory_bytes, limits.address_space_bytes, limits.cpu_seconds, limits.open_files, limits.processes)
    if any(size is not None and size < 1 for size in sizes):
        raise BadGang("Limits must be positive.")


def require_signal(number: int) -> None:
    if number not in signal.valid_signals():
        raise BadGang(f"There is no signal {number}.")


def ranks(gang: GangSpec) -> Sequence[tuple[str, tuple[int, ...]]]:
    """Node and accelerators of each rank, in order."""
    return [rank for placement in gang.placements for rank in _on_node(placement)]


def _on_node(placement: Placement) -> Sequence[tuple[str, tuple[int, ...]]]:
    """Accelerators are shared out evenly; those left over go to the first tasks."""
    each, over = divmod(len(placement.devices), placement.tasks)
    begin, found = 0, []
    for task in range(placement.tasks):
        end = begin + each + (task < over)
        found.append((placement.node, placement.devices[begin:end]))
        begin = end
    return found
