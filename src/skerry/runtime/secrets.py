"""The installation's secret key: what the database holds is worth nothing without it, and it never holds the key."""

import base64
import binascii
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VARIABLE: Final = "SKERRY_SECRET_KEY"
FILE: Final = "secret.key"

_VERSION = "v1"
_SHORTEST = 16  # bytes of a secret
_NONCE = 12
_ENTRY = re.compile(r"([A-Za-z0-9_-]{1,32}):(.*)", re.DOTALL)


class BadKeyring(ValueError):
    """The secret key cannot be used; the message says why and never shows it."""


class Undecryptable(ValueError):
    """Not encrypted by a key that we have, not for this purpose, or tampered with."""


@dataclass(frozen=True, slots=True)
class _Key:
    """One secret with the two keys made from it, so that none is used for two things."""

    id: str
    for_hmac: bytes
    for_encryption: AESGCM


class Keyring:
    """Several secrets, the first of which is current. To rotate, put a new one in front and keep the old.

    What the old ones encrypted can still be read. An HMAC made with an old one is found by looking for all `hmacs`.
    """

    def __init__(self, secrets_by_id: Sequence[tuple[str, bytes]]) -> None:
        """Raises BadKeyring for no key, equal ids, and secrets of less than 16 bytes."""
        if not secrets_by_id:
            raise BadKeyring("no secret key is given")
        self._keys = {id: _derive(id, secret) for id, secret in secrets_by_id}
        if len(self._keys) != len(secrets_by_id):
            raise BadKeyring("two secret keys have the same id")
        self._current = self._keys[secrets_by_id[0][0]]

    @classmethod
    def load(cls, home: Path, environ: Mapping[str, str] | None = None) -> "Keyring":
        """From the environment, else from `home/secret.key`, which is made if it is missing. Raises BadKeyring."""
        given = (os.environ if environ is None else environ).get(VARIABLE)
        if given:
            return cls(parse(given, VARIABLE))
        path = home / FILE
        if not path.exists():
            _create(path)
        return cls(parse(_read(path), str(path)))

    @property
    def current_id(self) -> str:
        return self._current.id

    def hmac(self, data: bytes) -> bytes:
        """HMAC-SHA256 with the current key: 32 bytes."""
        return hmac.digest(self._current.for_hmac, data, "sha256")

    def hmacs(self, data: bytes) -> tuple[bytes, ...]:
        """The HMACs with all keys, the current one's first: what is stored may have been made with any."""
        return tuple(hmac.digest(key.for_hmac, data, "sha256") for key in self._keys.values())

    def encrypt(self, plain: str, purpose: str) -> str:
        """`v1:KEYID:…`, AES-256-GCM. Only `decrypt` with the same purpose reads it."""
        key, nonce = self._current, secrets.token_bytes(_NONCE)
        sealed = key.for_encryption.encrypt(nonce, plain.encode(), _bound_to(key.id, purpose))
        return f"{_VERSION}:{key.id}:{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def seal(self, plain: bytes, purpose: str) -> bytes:
        """The same for bytes, without the third that base64 adds: `v1:KEYID:` and what only `unseal` reads."""
        key, nonce = self._current, secrets.token_bytes(_NONCE)
        sealed = key.for_encryption.encrypt(nonce, plain, _bound_to(key.id, purpose))
        return f"{_VERSION}:{key.id}:".encode() + nonce + sealed

    def unseal(self, sealed: bytes, purpose: str) -> bytes:
        """Raises Undecryptable."""
        version, _, rest = sealed.partition(b":")
        id, _, raw = rest.partition(b":")
        if version != _VERSION.encode():
            raise Undecryptable("this is not something that was sealed here")
        key = self._keys.get(id.decode("ascii", "replace"))
        if key is None:
            raise Undecryptable(f"it was sealed with a key that {VARIABLE} no longer has")
        try:
            return key.for_encryption.decrypt(raw[:_NONCE], raw[_NONCE:], _bound_to(key.id, purpose))
        except (InvalidTag, ValueError):
            raise Undecryptable("it was changed, or sealed for another purpose") from None

    def decrypt(self, sealed: str, purpose: str) -> str:
        """Raises Undecryptable."""
        version, _, rest = sealed.partition(":")
        id, _, text = rest.partition(":")
        key = self._keys.get(id)
        if version != _VERSION:
            raise Undecryptable("this is not something that was encrypted here")
        if key is None:
            raise Undecryptable(f"it was encrypted with key {id!r}, which {VARIABLE} no longer has")
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
            plain = key.for_encryption.decrypt(raw[:_NONCE], raw[_NONCE:], _bound_to(id, purpose))
        except (binascii.Error, InvalidTag, ValueError):
            raise Undecryptable("it was changed, or encrypted for another purpose") from None
        return plain.decode()


def parse(text: str, source: str) -> list[tuple[str, bytes]]:
    """`id:base64` entries separated by commas or lines, or one bare secret. Raises BadKeyring, naming `source`."""
    entries = [entry for entry in re.split(r"[,\s]+", text.strip()) if entry]
    if len(entries) == 1 and not _ENTRY.fullmatch(entries[0]):
        secret = entries[0].encode()
        return [(f"k{sha256(b'skerry key id' + secret).hexdigest()[:8]}", secret)]
    return [_parse_entry(entry, place, source) for place, entry in enumerate(entries, 1)]


def _parse_entry(entry: str, place: int, source: str) -> tuple[str, bytes]:
    match = _ENTRY.fullmatch(entry)
    try:
        if match is None:
            raise ValueError
        body = match[2].replace("-", "+").replace("_", "/").rstrip("=")
        return match[1], base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise BadKeyring(f"{source}: entry {place} is not `id:base64`") from None


def _derive(id: str, secret: bytes) -> _Key:
    if len(secret) < _SHORTEST:
        raise BadKeyring(f"secret key {id} is shorter than {_SHORTEST} bytes")
    return _Key(id, _expand(secret, b"skerry hmac"), AESGCM(_expand(secret, b"skerry encryption")))


def _expand(secret: bytes, use: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=use).derive(secret)


def _bound_to(key_id: str, purpose: str) -> bytes:
    return f"{_VERSION}:{key_id}:{purpose}".encode()


def _create(path: Path) -> None:
    """Write a new key beside and link it: the file is whole from its first moment, and the first of two makers wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"k{secrets.token_hex(4)}:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _read(path: Path) -> str:
    with path.open() as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise BadKeyring(f"{path} may be read by others (mode {mode:04o}): run `chmod 600 {path}`")
        return file.read()
