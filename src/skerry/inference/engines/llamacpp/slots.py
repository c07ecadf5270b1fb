"""Which slot of a replica a request goes to, so that no project meets another's cached prompts (I12).

llama.cpp keeps in each slot what it worked on last. The gateway names the slot (`id_slot`) and allows reuse
(`cache_prompt`) only where it knows that the slot's content is of the same project. It may know that of the slots that
it alone uses: gateways that share a replica need disjoint ranges of slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_COMPARED: Final = 64 * 1024
"""Bytes of a prompt that are compared at most."""


@dataclass(slots=True)
class _Slot:
    id: int
    project: str = ""
    prompt: bytes = b""
    busy: int = 0
    turn: int = 0


class Slots:
    """The slots of one replica, as one gateway uses them."""

    def __init__(self, ids: Sequence[int]) -> None:
        if not ids:
            raise ValueError("a replica has at least one slot")
        self._slots = [_Slot(id) for id in ids]
        self._turn = 0

    def take(self, project: str, prompt: bytes) -> tuple[int, bool]:
        """The slot to name, and whether its cache may be used. `prompt`: anything that begins as the prompt does.

        The project's own slot with the longest common beginning if one is idle, else the idle slot that has rested
        longest, else the one with the fewest waiting.
        """
        self._turn += 1
        prompt = prompt[:_COMPARED]
        idle = [slot for slot in self._slots if not slot.busy]
        own = [slot for slot in idle if slot.project == project]
        best = max(own, key=lambda slot: (common_prefix(slot.prompt, prompt), slot.turn), default=None)
        fresh = min((slot for slot in idle if not slot.project), key=lambda slot: slot.id, default=None)
        if best is not None and fresh is not None and common_prefix(best.prompt, prompt) < len(best.prompt) // 4:
            # Another conversation: it need not push out this one while there is an empty slot.
            best = fresh
        chosen = best or min(idle or self._slots, key=lambda slot: (slot.busy, slot.turn))
        reuse = chosen.project == project
        chosen.project, chosen.prompt = project, prompt
        chosen.busy += 1
        chosen.turn = self._turn
        return chosen.id, reuse

    def give_back(self, id: int) -> None:
        slot = next(slot for slot in self._slots if slot.id == id)
        slot.busy -= 1


def common_prefix(one: bytes, other: bytes) -> int:
    """Length of the common beginning, by halving: a few comparisons in C."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
