"""Tickets: what was signed here is believed as it was signed, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.inference.gateway.tickets import PURPOSE, BadTicket, BatchTicket, Tickets
from skerry.runtime.secrets import Keyring

KEYRING = Keyring([("k1", b"a secret of the tests")])
TICKET = BatchTicket("key_1", "proj_1", "batch_1", 7, bytes(range(16)), 1000)

names = st.text(st.characters(codec="ascii", exclude_categories=("C",)), min_size=1, max_size=40)


@given(names, names, names, st.integers(1, 50_000), st.binary(min_size=16, max_size=16), st.integers(1, 2**40))
def test_a_ticket_comes_back_as_it_was_signed(key, project, batch, line, id, expires) -> None:
    ticket = BatchTicket(key, project, batch, line, id, expires)
    assert Tickets.of(KEYRING).verify(Tickets.of(KEYRING).sign(ticket), expires - 1) == ticket


@given(st.data())
def test_a_ticket_that_was_changed_anywhere_is_not_believed(data) -> None:
    tickets = Tickets.of(KEYRING)
    text = tickets.sign(TICKET)
    place = data.draw(st.integers(len("Skerry-Batch "), len(text) - 1))
    letter = data.draw(st.sampled_from("ABCXYZabcxyz0189-_."))
    changed = text[:place] + letter + text[place + 1 :]
    try:
        # The last letter of base64 may carry bits that say nothing.
        assert tickets.verify(changed, 1) == TICKET
    except BadTicket:
        assert changed != text


@given(st.text(max_size=200))
def test_whatever_is_sent_is_answered_with_a_refusal(text: str) -> None:
    with pytest.raises(BadTicket):
        Tickets.of(KEYRING).verify(f"Skerry-Batch {text}", 1)


def test_a_ticket_ends() -> None:
    tickets = Tickets.of(KEYRING)
    assert tickets.verify(tickets.sign(TICKET), 999.9) == TICKET
    with pytest.raises(BadTicket, match="expired"):
        tickets.verify(tickets.sign(TICKET), 1000)


def test_another_installation_s_ticket_is_not_believed() -> None:
    theirs = Tickets.of(Keyring([("k1", b"another secret, not ours")]))
    with pytest.raises(BadTicket, match="not signed here"):
        Tickets.of(KEYRING).verify(theirs.sign(TICKET), 1)


def test_tickets_outlive_a_rotation_of_the_secret_key() -> None:
    before = Tickets.of(KEYRING).sign(TICKET)
    rotated = Keyring([("k2", b"the next secret, it is"), ("k1", b"a secret of the tests")])
    assert Tickets.of(rotated).verify(before, 1) == TICKET
    with pytest.raises(BadTicket):
        Tickets.of(KEYRING).verify(Tickets.of(rotated).sign(TICKET), 1)


def test_the_keys_of_tickets_serve_for_nothing_else() -> None:
    """What is stored of API keys is made with the installation's key itself, never with one of these."""
    assert KEYRING.hmac(PURPOSE) != KEYRING.hmac(b"sk-" + PURPOSE)
    with pytest.raises(BadTicket):
        Tickets([KEYRING.hmac(b"sk-whatever")]).verify(Tickets.of(KEYRING).sign(TICKET), 1)
