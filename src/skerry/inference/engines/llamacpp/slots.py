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
    """Whose content it holds for certain; empty: nobody's, or it is not known."""
    prompt: bytes = b""
    busy: int = 0
    alone: bool = True
    """Whether nothing was queued behind the request it works on."""
    turn: int = 0


class Slots:
    """The slots of one replica, as one gateway uses them."""

    def __init__(self, ids: Sequence[int]) -> None:
        if not ids:
            raise ValueError("a replica has at least one slot")
        self._slots = {id: _Slot(id) for id in ids}
        self._turn = 0

    def take(self, project: str, prompt: bytes) -> tuple[int, bool]:
        """The slot to name, and whether its cache may be used. `prompt`: anything that begins as the prompt does.

        The project's own slot with the longest common beginning if one is idle, else the idle slot that has rested
        longest, else the one with the fewest waiting.
        """
        self._turn += 1
        chosen = self._choose(project, prompt[:_COMPARED])
        reuse = not chosen.busy and chosen.project == project
        chosen.alone = not chosen.busy
        chosen.project, chosen.prompt = "", b""
        chosen.busy += 1
        chosen.turn = self._turn
        return chosen.id, reuse

    def give_back(self, id: int, project: str, prompt: bytes, *, answered: bool) -> None:
        """The request is over. Unless it was `answered` (status 200), the slot may still hold what it held before."""
        slot = self._slots[id]
        slot.busy -= 1
        if answered and slot.alone:
            slot.project, slot.prompt = project, prompt[:_COMPARED]

    def _choose(self, project: str, prompt: bytes) -> _Slot:
        idle = [slot for slot in self._slots.values() if not slot.busy]
        if not idle:
            return min(self._slots.values(), key=lambda slot: (slot.busy, slot.turn))
        rested = min(idle, key=lambda slot: (bool(slot.project), slot.turn))
        own = [slot for slot in idle if slot.project == project]
        if not own:
            return rested
        best = max(own, key=lambda slot: (common_prefix(slot.prompt, prompt), slot.turn))
        if not rested.project and common_prefix(best.prompt, prompt) < len(best.prompt) // 4:
            # Another conversation: it need not push out this one while there is an empty slot.
            return rested
        return best


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
