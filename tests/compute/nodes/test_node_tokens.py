"""Node tokens: whose they are, how long they are good, and that nothing else is one."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta

import pytest

from skerry.compute.nodes.tokens import LIFETIME, BadNodeToken, NodeCaller, NodeTokens
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId
from skerry.runtime.secrets import Keyring

CALLER = NodeCaller(ProjectId("proj_a"), WorkloadId("wl_a"), AttemptId("att_a"))
OLD, NEW = ("old", b"a secret of sixteen bytes, old"), ("new", b"a secret of sixteen bytes, new")


def test_a_token_says_whose_it_is(clock: FakeClock) -> None:
    tokens = NodeTokens(Keyring([NEW]), clock)
    assert tokens.read(tokens.issue(CALLER)) == CALLER


def test_it_lapses(clock: FakeClock) -> None:
    tokens = NodeTokens(Keyring([NEW]), clock)
    token = tokens.issue(CALLER)
    clock.advance(seconds=LIFETIME.total_seconds() - 1)
    assert tokens.read(token) == CALLER
    clock.advance(seconds=1)
    with pytest.raises(BadNodeToken):
        tokens.read(token)


def test_none_is_good_for_longer_than_an_hour(clock: FakeClock) -> None:
    tokens = NodeTokens(Keyring([NEW]), clock)
    token = tokens.issue(CALLER, timedelta(days=30))
    clock.advance(hours=1)
    with pytest.raises(BadNodeToken):
        tokens.read(token)


def test_one_made_with_the_old_key_is_good_until_that_is_gone(clock: FakeClock) -> None:
    token = NodeTokens(Keyring([OLD]), clock).issue(CALLER)
    assert NodeTokens(Keyring([NEW, OLD]), clock).read(token) == CALLER
    with pytest.raises(BadNodeToken):
        NodeTokens(Keyring([NEW]), clock).read(token)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: None,
        lambda token: "",
        lambda token: "sk-demo",
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token.replace("snt_", "snt_A", 1),
        lambda token: token.partition(".")[0],
        lambda token: token.partition(".")[0] + ".",
        lambda token: token + "é",
        lambda token: token * 20,
        lambda token: "snt_." + token.partition(".")[2],
    ],
)
def test_nothing_else_is_one(clock: FakeClock, spoil) -> None:
    tokens = NodeTokens(Keyring([NEW]), clock)
    with pytest.raises(BadNodeToken):
        tokens.read(spoil(tokens.issue(CALLER)))


def test_a_mark_for_another_purpose_opens_nothing(clock: FakeClock) -> None:
    keyring = Keyring([NEW])
    tokens = NodeTokens(keyring, clock)
    payload = tokens.issue(CALLER).removeprefix("snt_").partition(".")[0]
    raw = urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    mark = urlsafe_b64encode(keyring.hmac(raw)).decode().rstrip("=")
    with pytest.raises(BadNodeToken):
        tokens.read(f"snt_{payload}.{mark}")
