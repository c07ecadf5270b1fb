"""Reading public keys. Pure."""

import base64
import binascii
from hashlib import sha256
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from skerry.identity.ssh_keys.errors import BadSshKey
from skerry.identity.ssh_keys.model import PublicKey
from skerry.kernel.errors import FieldError

LONGEST: Final = 16 * 1024
RSA_BITS: Final = 2048
TYPES: Final = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_LONGEST_COMMENT: Final = 200
_FORM: Final = "It is one line, as in ~/.ssh/id_ed25519.pub: `ssh-ed25519 AAAA… you@machine`."


def looks_like_key(text: str) -> bool:
    """Whether it is meant as a key, rather than as the name of one."""
    return " " in text.strip() or "\n" in text.strip() or "PRIVATE KEY" in text


def parse_public_key(text: str, path: str = "public_key") -> PublicKey:
    """Raises BadSshKey at `path`: for what is none, for private keys, for options, and for keys that are too weak."""
    line = text.strip()
    if "PRIVATE KEY" in line:
        raise _bad(
            path,
            "private_key",
            "this is a PRIVATE key. It was not stored, but it has left your machine: do not use it any more",
            "Make a new pair with `ssh-keygen -t ed25519`, and give the file that ends in .pub.",
        )
    if not line or len(line) > LONGEST or len(line.splitlines()) != 1 or not line.isprintable():
        raise _bad(path, "not_a_key", "this is not one line with a public key", _FORM)
    kind, *rest = line.split(None, 2)
    if kind not in TYPES:
        raise _unknown_type(path, kind, line)
    if not rest:
        raise _bad(path, "not_a_key", f"after {kind} the key itself is missing", _FORM)
    blob, comment = rest[0], rest[1].strip() if len(rest) > 1 else ""
    raw = _checked(path, kind, blob)
    fingerprint = base64.b64encode(sha256(raw).digest()).decode().rstrip("=")
    return PublicKey(kind, blob, comment[:_LONGEST_COMMENT], f"SHA256:{fingerprint}")


def _checked(path: str, kind: str, blob: str) -> bytes:
    try:
        raw = base64.b64decode(blob, validate=True)
        key = load_ssh_public_key(f"{kind} {blob}".encode())
    except (binascii.Error, ValueError, UnsupportedAlgorithm) as error:
        words = "it was cut off or changed: it cannot be read as the key that its first word says"
        raise _bad(path, "not_a_key", words, _FORM) from error
    if isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS:
        words = f"an RSA key of {key.key_size} bits can be broken; {RSA_BITS} is the least"
        raise _bad(path, "weak_key", words, "Make a new one: `ssh-keygen -t ed25519`.")
    return raw


def _unknown_type(path: str, kind: str, line: str) -> BadSshKey:
    if any(word in TYPES for word in line.split()[1:]):
        words = f"options before the key are not taken: {kind[:60]!r}"
        return _bad(path, "key_options", words, "Give the key alone, from `ssh-` or `ecdsa-` on.")
    if "-cert-v01@" in kind:
        return _bad(path, "certificate", "this is a certificate, not a public key", "Give the key that it is for.")
    words = f"{kind[:60]!r} is not a kind of key that is taken; there are {', '.join(TYPES)}"
    return _bad(path, "not_a_key", words, _FORM)


def _bad(path: str, code: str, words: str, suggestion: str) -> BadSshKey:
    return BadSshKey(f"{path}: {words}.", code=code, suggestion=suggestion, errors=[FieldError(path, code, words)])
