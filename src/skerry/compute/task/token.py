"""The node token: read, renewed before it lapses, and put where the task finds it."""

import os
import time
from pathlib import Path
from typing import Final

from skerry.compute.task.calling import Api, Away, Refused
from skerry.compute.task.order import TOKEN_FILE, ProjectUser

_EARLIEST_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 15.0


class Token:
    """The folder may be the task's own: what is written there is written through its descriptor, to new files only."""

    def __init__(self, folder: Path, user: ProjectUser | None) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._user = user
        self._value = (folder / TOKEN_FILE).read_text().strip()
        self._due = time.monotonic() + _EARLIEST_SECONDS

    @property
    def value(self) -> str:
        return self._value

    @property
    def due_in(self) -> float:
        """Seconds until it had better be renewed."""
        return max(0.0, self._due - time.monotonic())

    def renew(self, api: Api) -> None:
        """Never raises: it is tried again, and what is refused stays so."""
        try:
            answer = api.call("POST", "token")
            value, seconds = str(answer["token"]), float(answer["expires_in"])
            self._write(value)
        except (Away, OSError, KeyError, TypeError, ValueError):
            self._due = time.monotonic() + _RETRY_SECONDS
        except Refused:
            self._due = time.monotonic() + 4 * _RETRY_SECONDS
        else:
            self._value = value
            self._due = time.monotonic() + max(_EARLIEST_SECONDS, seconds / 2)

    def _write(self, value: str) -> None:
        draft = f".{TOKEN_FILE}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(draft, flags, 0o600, dir_fd=self._folder)
        with os.fdopen(fd, "w") as file:
            file.write(value)
            if self._user is not None:
                os.fchown(fd, self._user.uid, self._user.uid)
        os.rename(draft, TOKEN_FILE, src_dir_fd=self._folder, dst_dir_fd=self._folder)
