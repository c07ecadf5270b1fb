"""What a task finds in its environment: what the engine set, what the customer gave, and nothing else. Pure."""

from collections.abc import Mapping
from typing import Final

_FROM_ENGINE: Final = ("LANG", "CUDA_VISIBLE_DEVICES")
_OURS: Final = "SKERRY_"
_NOT_FOR_TASKS: Final = frozenset({"SKERRY_RUN_AS", "SKERRY_LIFELINE_FD"})


def of_task(
    engine: Mapping[str, str], given: Mapping[str, str], fixed: Mapping[str, str], programs: tuple[str, ...]
) -> dict[str, str]:
    """`engine`: the wrapper's own environment; `given`: the customer's; `fixed` is not to be overridden by either, nor
    is what begins with `SKERRY_`. `programs`: folders that are looked through first."""
    from_engine = {
        name: value
        for name, value in engine.items()
        if (name in _FROM_ENGINE or name.startswith(_OURS)) and name not in _NOT_FOR_TASKS
    }
    path = ":".join([*programs, engine.get("PATH", "/usr/local/bin:/usr/bin:/bin")])
    free = {name: value for name, value in given.items() if not name.startswith(_OURS) and name not in _FROM_ENGINE}
    lang = {"LANG": given["LANG"]} if "LANG" in given else {}
    return {"PATH": path, **from_engine, **lang, **free, **fixed}
