"""`credentials.toml`: where the first start leaves its keys for the CLI."""

import os
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tomli_w

from skerry.kernel.errors import Unauthorized

if TYPE_CHECKING:
    from skerry.identity.service import (
        Identity,
    )  # `skerry status` reads the file, and should not wait for a database library

FILE: Final = "credentials.toml"
_FIELDS: Final = ("url", "operator_key", "project_key", "ca_cert")


@dataclass(frozen=True, slots=True)
class Credentials:
    url: str
    operator_key: str
    project_key: str
    ca_cert: str = ""
    """The public port's certificate where it speaks HTTPS: it may vouch for itself."""

    def __repr__(self) -> str:
        return f"Credentials(url={self.url!r}, …)"


@dataclass(frozen=True, slots=True)
class Ensured:
    """`note` is a line for the operator where something had to be made anew; else empty."""

    credentials: Credentials
    note: str


async def ensure(identity: "Identity", home: Path, url: str, ca_cert: str = "") -> Ensured:
    """Make what the first start makes, and see to it that the file has two keys that work.

    Keys whose file was lost cannot be shown again: new ones are made beside them, and the note says so.
    """
    made = await identity.bootstrap()
    before = read(home)
    operator_key = made.operator_key or await _working(identity, before.operator_key if before else None)
    project_key = made.project_key or await _working(identity, before.project_key if before else None)
    note = ""
    if operator_key is None or project_key is None:
        fresh = await identity.bootstrapper.mint(operator=operator_key is None, project=project_key is None)
        which = " and ".join(n for n, k in (("operator_key", operator_key), ("project_key", project_key)) if k is None)
        operator_key, project_key = operator_key or fresh.operator_key, project_key or fresh.project_key
        why = f"{home / FILE} was missing" if before is None else f"{home / FILE} had keys that no longer work"
        note = f"{why}: made a new {which}. Earlier keys still work where they did: `skerry keys` lists them."
    assert operator_key is not None
    assert project_key is not None
    credentials = Credentials(url, operator_key, project_key, ca_cert)
    if credentials != before:
        write(home, credentials)
    return Ensured(credentials, note)


def read(home: Path) -> Credentials | None:
    """None where there is no file, or none that can be read as one."""
    content = _content(home)
    values = [content.get(name) for name in _FIELDS]
    url, operator_key, project_key, ca_cert = (value if isinstance(value, str) else "" for value in values)
    return Credentials(url, operator_key, project_key, ca_cert) if operator_key or project_key else None


def write(home: Path, credentials: Credentials) -> None:
    """Whole or not at all, and never readable by others, not even for a moment. Profiles in the file are kept."""
    draft = home / f".{FILE}.{secrets.token_hex(4)}"
    fields = credentials.url, credentials.operator_key, credentials.project_key, credentials.ca_cert
    ours = {name: value for name, value in zip(_FIELDS, fields, strict=True) if value}
    kept = {name: value for name, value in _content(home).items() if name not in _FIELDS}
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(tomli_w.dumps({**ours, **kept}))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(home / FILE)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _content(home: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((home / FILE).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}


async def _working(identity: "Identity", secret: str | None) -> str | None:
    """The secret, if it is a key's that can be used."""
    try:
        await identity.authenticate(secret)
    except Unauthorized:
        return None
    return secret
