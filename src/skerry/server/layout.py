"""Where an installation keeps its things, and who may enter.

    SKERRY_HOME/            secret.key, credentials.toml, launcher.lock: the operator's
    state/ (or the same)    postgres/ pg/ run/ logs/ journal/ files/ cache/ programs/

Run by root, the processes are unprivileged users'. Where these cannot reach SKERRY_HOME (a 0700 home above it), the
state lies in a folder of its own below `/var/lib/skerry`, and `SKERRY_HOME/state` links to it. Permissions of folders
that are not ours are never widened.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from skerry.db.osuser import OsUser, may
from skerry.runtime.privileges import control_user
from skerry.runtime.settings import STATE_LINK

VAR = Path("/var/lib/skerry")


class BadLayout(RuntimeError):
    """Folders that cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders, made and given to whom they belong."""

    home: Path
    state: Path
    user: OsUser | None
    """Whom the control plane runs as; None: whoever started it."""

    @property
    def postgres(self) -> Path:
        return self.state / "postgres"

    @property
    def sockets(self) -> Path:
        """PostgreSQL's socket; its path is limited to about 100 bytes."""
        return self.state / "pg"

    @property
    def programs(self) -> Path:
        """Copies of programs whose own folder is closed to their users."""
        return self.state / "programs"

    @classmethod
    def prepare(cls, home: Path) -> "Layout":
        """Make what is missing. Raises BadLayout."""
        try:
            user = control_user()
            home.mkdir(parents=True, exist_ok=True, mode=0o700 if user is None else 0o755)
            state = _state_of(home, user)
            layout = cls(home, state, user)
            layout._make_folders()
        except (OSError, LookupError) as error:
            raise BadLayout(f"{home} cannot be used: {error}") from error
        return layout

    def _make_folders(self) -> None:
        group = self.user.groups[0] if self.user else None
        for name, mode, owned in (
            ("run", 0o770, False),
            ("logs", 0o750, False),
            ("journal", 0o700, True),
            ("files", 0o700, True),
            ("cache", 0o700, True),
        ):
            folder = self.state / name
            folder.mkdir(exist_ok=True)
            if self.user is not None and group is not None:
                os.chown(folder, self.user.uid if owned else 0, group)
            folder.chmod(mode)


def _state_of(home: Path, user: OsUser | None) -> Path:
    link = home / STATE_LINK
    if link.exists():
        return link.resolve()
    if user is None or may(user, "x", home):
        return home
    state = VAR / hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    for folder in (VAR, state):
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o755)
    if not may(user, "x", state):
        raise BadLayout(f"{state} is closed to user {user.name}: a folder above it lets nobody through")
    if link.is_symlink():
        link.unlink()
    link.symlink_to(state)
    return state
