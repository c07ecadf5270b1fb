"""A folder as an archive: the same folder gives the same bytes, so that it is uploaded but once."""

import gzip
import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pathspec import GitIgnoreSpec

from skerry.cli.failures import Failure, wrong_use
from skerry.cli.figures import size

IGNORE = ".gitignore"
NEVER = (".git", ".hg", ".svn", ".venv", "__pycache__", ".ipynb_checkpoints")
"""Left out whatever `.gitignore` says: none of it is a program."""
MOST_BYTES = 256 << 20
"""Of the archive; the same as the server's limit for sources."""
MOST_FILES = 50_000
MOST_UNPACKED = 2 << 30
_SHOWN = 5
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """`path` is relative to the folder, with slashes."""

    path: str
    here: Path
    bytes: int
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    path: Path
    sha256: str
    bytes: int
    files: int
    unpacked: int


def entries(folder: Path) -> list[Entry]:
    """What of a folder is packed, in order. Raises Failure for a folder that is no program's."""
    _require_sensible(folder)
    found: list[Entry] = []
    total = 0
    for entry in _walk(folder, folder, ()):
        found.append(entry)
        total += entry.bytes
        if len(found) > MOST_FILES or total > MOST_UNPACKED:
            raise _too_large(found)
    return sorted(found, key=lambda entry: entry.path)


def pack(found: list[Entry], target: Path, told: Callable[[int], None] | None = None) -> Packed:
    """Write the archive. `told` hears how many bytes of the files are in it. Raises Failure where it gets too large."""
    done = 0
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for entry in found:
            try:
                _add(archive, entry)
            except OSError as error:
                raise wrong_use(f"{entry.here} cannot be read: {error.strerror}") from error
            done += entry.bytes
            if told is not None:
                told(done)
            if raw.tell() > MOST_BYTES:
                raise _too_large(found)
    length = target.stat().st_size
    if length > MOST_BYTES:
        raise _too_large(found)
    return Packed(target, _digest(target), length, len(found), done)


def _walk(root: Path, folder: Path, above: tuple[tuple[Path, GitIgnoreSpec], ...]) -> Iterator[Entry]:
    try:
        inside = sorted(os.scandir(folder), key=lambda one: one.name)
    except OSError as error:
        raise wrong_use(f"{folder} cannot be read: {error.strerror}") from error
    ignore = folder / IGNORE
    if ignore.is_file():
        lines = ignore.read_text(errors="replace").splitlines()
        above = (*above, (folder, GitIgnoreSpec.from_lines(lines)))
    for one in inside:
        path = Path(one.path)
        is_folder = one.is_dir(follow_symlinks=False)
        if one.name in NEVER or _ignored(path, above, is_folder=is_folder):
            continue
        if is_folder:
            yield from _walk(root, path, above)
        elif (entry := _entry(root, path)) is not None:
            yield entry


def _ignored(path: Path, rules: tuple[tuple[Path, GitIgnoreSpec], ...], *, is_folder: bool) -> bool:
    """The nearest `.gitignore` that says anything decides, as with git."""
    for base, spec in reversed(rules):
        name = path.relative_to(base).as_posix() + ("/" if is_folder else "")
        said = spec.check_file(name).include
        if said is not None:
            return said
    return False


def _entry(root: Path, path: Path) -> Entry | None:
    """None for what is no file: sockets, pipes, and links that lead out of the folder or nowhere."""
    name = path.relative_to(root).as_posix()
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        link = os.readlink(path)
        target = (path.parent / link).resolve()
        inside = not Path(link).is_absolute() and target.is_relative_to(root.resolve()) and target.exists()
        return Entry(name, path, 0, link) if inside else None
    return Entry(name, path, found.st_size) if stat.S_ISREG(found.st_mode) else None


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    """Without owner and times: who packs it, and when, is nobody's affair."""
    info = tarfile.TarInfo(entry.path)
    if entry.link is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
        archive.addfile(info)
        return
    with entry.here.open("rb") as file:
        found = os.fstat(file.fileno())
        info.size = found.st_size
        info.mode = 0o755 if found.st_mode & 0o100 else 0o644
        archive.addfile(info, file)


def _digest(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := _read(file):
            sha.update(block)
    return sha.hexdigest()


def _read(file: IO[bytes]) -> bytes:
    return file.read(_BLOCK)


def _require_sensible(folder: Path) -> None:
    whole = folder.resolve()
    if whole in (Path.home().resolve(), Path(whole.anchor)):
        raise wrong_use(
            f"{whole} is not packed: it is more than a program.",
            "Go to the program's folder, or say --source none to run without one.",
        )


def _too_large(found: list[Entry]) -> Failure:
    largest = sorted(found, key=lambda entry: -entry.bytes)[:_SHOWN]
    return Failure(
        f"The folder is too large for a source: at most {size(MOST_BYTES)} packed, {size(MOST_UNPACKED)} and "
        f"{MOST_FILES:,} files unpacked.",
        details=tuple(f"{size(entry.bytes):>12}  {entry.path}" for entry in largest),
        suggestion=f"Name in {IGNORE} what the program does not need; large data belongs in a shared folder.",
    )
