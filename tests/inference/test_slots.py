"""Which slot a request goes to, and what it may find there."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from skerry.inference.engines.llamacpp.slots import Slots, common_prefix


def answer(slots: Slots, project: str, prompt: bytes, *, answered: bool = True) -> tuple[int, bool]:
    id, reuse = slots.take(project, prompt)
    slots.give_back(id, project, prompt, answered=answered)
    return id, reuse


def test_a_conversation_goes_on_where_it_was():
    slots = Slots(range(4))
    first, reuse = answer(slots, "a", b"one two")
    assert not reuse
    answer(slots, "b", b"one two")
    assert answer(slots, "a", b"one two three") == (first, True)


def test_two_conversations_of_a_project_keep_apart():
    slots = Slots(range(4))
    one, _ = answer(slots, "a", b"about ships, " * 9)
    two, reuse = answer(slots, "a", b"of shoes, " * 9)
    assert one != two
    assert not reuse
    assert answer(slots, "a", b"about ships, " * 9 + b"and more") == (one, True)
    assert answer(slots, "a", b"of shoes, " * 9 + b"and more") == (two, True)


def test_the_slot_that_rested_longest_is_given_away():
    slots = Slots(range(2))
    first, _ = answer(slots, "a", b"x")
    answer(slots, "b", b"x")
    assert answer(slots, "c", b"x") == (first, False)


def test_a_refused_request_leaves_what_was_there_to_nobody():
    slots = Slots([0])
    answer(slots, "a", b"secret")
    assert answer(slots, "b", b"far too long", answered=False) == (0, False)
    assert answer(slots, "b", b"secret") == (0, False), "a's work may still be in it"
    assert answer(slots, "b", b"secret") == (0, True)


def test_who_queues_behind_another_finds_nothing():
    slots = Slots([0])
    answer(slots, "a", b"x")
    id, reuse = slots.take("a", b"x")
    assert reuse
    assert slots.take("a", b"x") == (0, False)
    slots.give_back(id, "a", b"x", answered=True)
    slots.give_back(id, "a", b"x", answered=True)
    assert answer(slots, "a", b"x") == (0, False)


class AnyUse(RuleBasedStateMachine):
    """However requests come, fail and end: `cache_prompt` never finds another project's work.

    No more of them are under way than there are slots, as gateways keep it. The engine here is as bad as it may be: a
    request that was refused left everything as it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(range(3))
        self.content = dict.fromkeys(range(3), "nobody")
        self.open: list[tuple[int, bool, str, bytes]] = []

    @precondition(lambda self: len(self.open) < 3)
    @rule(project=st.sampled_from("abc"), prompt=st.sampled_from([b"", b"xx", b"xxyy", b"z" * 100]))
    def take(self, project: str, prompt: bytes) -> None:
        id, reuse = self.slots.take(project, prompt)
        self.open.append((id, reuse, project, prompt))

    @rule(which=st.integers(0, 100), answered=st.booleans())
    def give_back(self, which: int, answered: bool) -> None:
        if not self.open:
            return
        id, reuse, project, prompt = self.open.pop(which % len(self.open))
        if answered:
            assert not reuse or self.content[id] == project
            self.content[id] = project
        self.slots.give_back(id, project, prompt, answered=answered)


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_common_prefix():
    assert common_prefix(b"", b"abc") == 0
    assert common_prefix(b"abcd", b"abxd") == 2
    assert common_prefix(b"abc", b"abc") == 3
    assert common_prefix(b"abc", b"abcdef") == 3
