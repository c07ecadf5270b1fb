import base64
import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.runtime.secrets import BadKeyring, Keyring, Undecryptable, parse

OLD = ("old", b"o" * 32)
NEW = ("new", b"n" * 32)


def load(home, text=None):
    return Keyring.load(home, {"SKERRY_SECRET_KEY": text} if text else {})


@given(st.text(), st.text())
def test_what_is_encrypted_can_be_read_for_the_same_purpose(plain, purpose):
    keyring = Keyring([NEW])
    sealed = keyring.encrypt(plain, purpose)
    assert sealed.startswith("v1:new:")
    assert keyring.decrypt(sealed, purpose) == plain
    with pytest.raises(Undecryptable):
        keyring.decrypt(sealed, purpose + "!")


def test_the_same_text_is_never_encrypted_the_same_way_twice():
    keyring = Keyring([NEW])
    assert len({keyring.encrypt("x", "p") for _ in range(100)}) == 100


def test_any_changed_character_is_noticed():
    keyring = Keyring([NEW, OLD])
    sealed = keyring.encrypt("replica key", "replica")
    for place in range(len(sealed)):
        changed = sealed[:place] + ("A" if sealed[place] != "A" else "B") + sealed[place + 1 :]
        with pytest.raises(Undecryptable):
            keyring.decrypt(changed, "replica")


@pytest.mark.parametrize("text", ["", "v1", "v1:new", "v1:new:", "v1:new:!!!", "v2:new:AAAA", "plain text", "v1:é:é"])
def test_what_was_not_encrypted_here_is_refused(text):
    with pytest.raises(Undecryptable):
        Keyring([NEW]).decrypt(text, "p")


def test_rotation():
    before = Keyring([OLD])
    sealed, digest = before.encrypt("text", "p"), before.hmac(b"data")
    after = Keyring([NEW, OLD])
    assert after.decrypt(sealed, "p") == "text"
    assert after.encrypt("text", "p").startswith("v1:new:")
    assert after.hmac(b"data") != digest
    assert after.hmacs(b"data") == (after.hmac(b"data"), digest)
    with pytest.raises(Undecryptable, match="key 'old', which SKERRY_SECRET_KEY no longer has"):
        Keyring([NEW]).decrypt(sealed, "p")


def test_an_id_is_no_key():
    """Two keys of one id do not read each other's."""
    with pytest.raises(Undecryptable):
        Keyring([("k", b"1" * 32)]).decrypt(Keyring([("k", b"2" * 32)]).encrypt("x", "p"), "p")


def test_hmacs_are_32_bytes_and_depend_on_key_and_data():
    one, other = Keyring([NEW]), Keyring([OLD])
    assert len(one.hmac(b"a")) == 32
    assert len({one.hmac(b"a"), one.hmac(b"b"), other.hmac(b"a")}) == 3


def test_the_file_is_made_once_and_only_for_its_owner(tmp_path):
    first = load(tmp_path / "home")
    path = tmp_path / "home" / "secret.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.key"]
    assert load(tmp_path / "home").hmac(b"a") == first.hmac(b"a")


def race(home, barrier, results):
    barrier.wait()
    results.put(Keyring.load(home, {}).hmac(b"a"))


def test_processes_that_start_at_once_agree_on_one_key(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    racers = [context.Process(target=race, args=(tmp_path, barrier, results)) for _ in range(4)]
    for racer in racers:
        racer.start()
    assert len({results.get(timeout=20) for _ in racers}) == 1
    for racer in racers:
        racer.join()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    load(tmp_path)
    path = tmp_path / "secret.key"
    path.chmod(mode)
    with pytest.raises(BadKeyring, match="chmod 600"):
        load(tmp_path)


def test_the_file_can_hold_several_keys(tmp_path):
    first = load(tmp_path)
    path = tmp_path / "secret.key"
    path.write_text(f"next:{base64.b64encode(b'x' * 32).decode()}\n{path.read_text()}")
    rotated = load(tmp_path)
    assert rotated.current_id == "next"
    assert rotated.decrypt(first.encrypt("a", "p"), "p") == "a"


def test_the_environment_goes_before_the_file(tmp_path):
    keyring = load(tmp_path, "a bare secret with spaces is none of ours".replace(" ", "-"))
    assert not os.listdir(tmp_path)
    assert keyring.current_id.startswith("k")


def test_a_bare_secret_always_has_the_same_id():
    [(one, secret)] = parse("correct-horse-battery", "X")
    assert secret == b"correct-horse-battery"
    assert parse("correct-horse-battery", "X")[0][0] == one != parse("correct-horse-batterx", "X")[0][0]


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_entries_may_be_in_either_base64_and_without_padding(encode):
    secret = bytes(range(200, 232))
    text = encode(secret).decode()
    assert parse(f"a:{text},b:{text.rstrip('=')}", "X") == [("a", secret), ("b", secret)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("short", "shorter than 16 bytes"),
        ("a:c2hvcnQ=", "shorter than 16 bytes"),
        ("a:!!!!", "SKERRY_SECRET_KEY: entry 1 is not `id:base64`"),
        ("a:bm90IHNvIHNob3J0IGFzIHRoYXQ=,hello-hello-hello-hello", "entry 2"),
        ("a:bm90IHNvIHNob3J0IGFzIHRoYXQ=,a:bm90IHNvIHNob3J0IGFzIHRoYXT=", "same id"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_clear_line_without_the_secret(tmp_path, text, message):
    with pytest.raises(BadKeyring, match=message) as caught:
        load(tmp_path, text)
    assert "c2hv" not in str(caught.value) and "hello-hello" not in str(caught.value)


def test_no_key_at_all_is_refused(tmp_path):
    (tmp_path / "secret.key").touch(mode=0o600)
    with pytest.raises(BadKeyring):
        load(tmp_path)
