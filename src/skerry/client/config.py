"""Where the cloud is and which key to use: `$SKERRY_HOME/credentials.toml`, the environment, or a named profile.

At the top of the file stand `url`, `operator_key` and `project_key` of the cloud on this machine (`skerry up` writes
them); `[profiles.NAME]` tables with `url` and `api_key` are other clouds or other keys (`skerry login` writes them).
"""

import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from skerry.client.errors import MissingKey, NotConfigured

DEFAULT_PROFILE = "default"
OWN_KEYS: Mapping[str, str] = {"operator": "operator_key", "project": "project_key"}
"""Profiles that nobody has to store: the keys of the cloud on this machine."""
DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Connection:
    url: str
    api_key: str = field(repr=False)
    source: str
    """Where the key came from, in words."""
    ca_cert: str | None = None
    """A file of certificates to trust beside the system's own: SKERRY_CA_CERT, or `ca_cert` where the URL is from."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The file's content. `path` need not exist."""

    path: Path
    content: Mapping[str, Any] = field(repr=False)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> "Credentials":
        """Raises NotConfigured where there is a file that cannot be used."""
        env = os.environ if environ is None else environ
        path = Path(env.get("SKERRY_HOME") or "~/.skerry").expanduser() / "credentials.toml"
        try:
            return cls(path, tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            raise NotConfigured(f"{path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise NotConfigured(f"{path} is not valid TOML: {error}", suggestion="Correct it, or delete it.") from error

    def resolve(
        self, environ: Mapping[str, str] | None = None, *, profile: str | None = None, operator: bool = False
    ) -> Connection:
        """The connection to use: the named profile, else the environment, else the file.

        `operator` prefers the operator's key where the file has one; a profile and SKERRY_API_KEY stay as they are.
        Raises NotConfigured.
        """
        env = os.environ if environ is None else environ
        found = self._profile(profile) if profile is not None else self._of(env, operator=operator)
        return replace(found, ca_cert=env["SKERRY_CA_CERT"]) if env.get("SKERRY_CA_CERT") else found

    def _of(self, env: Mapping[str, str], *, operator: bool) -> Connection:
        url, key = env.get("SKERRY_URL"), env.get("SKERRY_API_KEY")
        fallback = self._fallback(operator=operator)
        if key:
            ca_cert = fallback.ca_cert if fallback and not url else None
            return Connection(url or (fallback.url if fallback else DEFAULT_URL), key, "SKERRY_API_KEY", ca_cert)
        if fallback is None:
            raise MissingKey(
                "There is no API key.",
                suggestion="`skerry up` starts a cloud on this machine; `skerry login URL` connects to another.",
            )
        return Connection(url, fallback.api_key, fallback.source) if url else fallback

    def with_profile(self, name: str, *, url: str, api_key: str, ca_cert: str | None = None) -> "Credentials":
        trusted = {"ca_cert": ca_cert} if ca_cert else {}
        profiles = {**self._profiles(), name: {"url": url, "api_key": api_key, **trusted}}
        return Credentials(self.path, {**self.content, "profiles": profiles})

    def save(self) -> None:
        """Replaces the file at once, readable by its owner only. Raises NotConfigured."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".credentials-")
        except OSError as error:
            raise NotConfigured(f"{self.path} cannot be written: {error.strerror}") from error
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                tomli_w.dump(dict(self.content), file)
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise NotConfigured(f"{self.path} cannot be written: {error.strerror}") from error

    def _fallback(self, *, operator: bool) -> Connection | None:
        """The machine's own cloud, else the default profile."""
        for name in ("operator_key", "project_key") if operator else ("project_key", "operator_key"):
            if self.content.get(name):
                return self._own(name)
        return self._profile(DEFAULT_PROFILE) if DEFAULT_PROFILE in self._profiles() else None

    def _own(self, name: str) -> Connection:
        """The machine's own cloud with one of its two keys."""
        url = str(self.content.get("url") or DEFAULT_URL)
        return Connection(url, str(self.content[name]), name, _text(self.content.get("ca_cert")))

    def _profile(self, name: str) -> Connection:
        profiles = self._profiles()
        table = profiles.get(name)
        if table is None and self.content.get(OWN_KEYS.get(name, "")):
            return self._own(OWN_KEYS[name])
        if table is None:
            known = f"There are: {', '.join(sorted(profiles))}." if profiles else "There are none yet."
            raise NotConfigured(
                f"There is no profile {name!r} in {self.path}. {known}",
                suggestion=f"`skerry login URL --profile {name}` makes it.",
            )
        if not isinstance(table, dict) or not table.get("url") or not table.get("api_key"):
            raise NotConfigured(f"The profile {name!r} in {self.path} has no url or no api_key.")
        return Connection(str(table["url"]), str(table["api_key"]), f"profile {name}", _text(table.get("ca_cert")))

    def _profiles(self) -> Mapping[str, Any]:
        profiles = self.content.get("profiles")
        return profiles if isinstance(profiles, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
