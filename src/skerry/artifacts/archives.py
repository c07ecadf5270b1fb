"""Archives that strangers send: looked through before anything is kept, and unpacked without leaving the folder.

Standard library only: nodes unpack with it, in a program that starts once for every task. Both formats become the same
`Entry`, and one set of rules judges those. Files are written by our own hand, links last: nothing is written through
one.
"""

import gzip
import io
import os
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, BinaryIO, Final

_PIECE: Final = 256 << 10
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_END_RECORD: Final = struct.Struct("<4s4H2LH")
_END_SIGNATURE: Final = b"PK\x05\x06"
_ZIP64_LOCATOR: Final = (b"PK\x06\x07", 20)
_HEADERS_MAX: Final = 1 << 20
_DIRECTORY_MAX: Final = 16 << 20
_HISTORY: Final = 4096
_LINK_MAX: Final = 4096


class Danger(StrEnum):
    """Why an archive is refused. Part of the public surface, as the error's code."""

    NOT_AN_ARCHIVE = "not_an_archive"
    BROKEN = "broken_archive"
    """Cut off, or damaged."""
    EMPTY = "empty_archive"
    ABSOLUTE_PATH = "absolute_path"
    OUTSIDE = "path_outside"
    LINK_OUTSIDE = "link_outside"
    THROUGH_LINK = "path_through_link"
    HARD_LINK = "hard_link"
    SPECIAL_FILE = "special_file"
    SET_ID = "set_id_bit"
    BAD_NAME = "bad_name"
    NAME_NOT_UTF8 = "name_not_utf8"
    DUPLICATE = "duplicate_name"
    ENCRYPTED = "encrypted_entry"
    METHOD = "unknown_compression"
    TOO_MANY = "too_many_entries"
    TOO_LARGE = "too_large_unpacked"
    BOMB = "compressed_too_well"


class UnsafeArchive(ValueError):
    """`entry` is the name of the entry that it is about, where there is one."""

    def __init__(self, danger: Danger, words: str, entry: str = "") -> None:
        super().__init__(f"{_shown(entry)}: {words}" if entry else words)
        self.danger = danger
        self.entry = entry


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bytes are those of the unpacked files. `ratio` counts once there are `ratio_from` of them."""

    entries: int = 50_000
    bytes: int = 8 << 30
    ratio: int = 200
    ratio_from: int = 64 << 20
    name_bytes: int = 1024
    depth: int = 64


@dataclass(frozen=True, slots=True)
class ArchiveFacts:
    kind: str
    """`tar.gz` or `zip`."""
    files: int
    bytes: int


class _Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    kind: _Kind
    mode: int
    link: str
    read: Callable[[], IO[bytes] | None]


def inspect(file: BinaryIO, limits: ArchiveLimits = ArchiveLimits()) -> ArchiveFacts:
    """Read all of it, and keep nothing. Raises UnsafeArchive."""
    return _go_through(file, limits, None)


def unpack(file: BinaryIO, folder: Path, limits: ArchiveLimits = ArchiveLimits()) -> ArchiveFacts:
    """Into a folder that is there and empty. What came before a refusal stays. Raises UnsafeArchive, OSError."""
    return _go_through(file, limits, folder)


def _go_through(file: BinaryIO, limits: ArchiveLimits, folder: Path | None) -> ArchiveFacts:
    file.seek(0)
    magic = file.read(4)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    rules = _Rules(limits, size)
    files = 0
    links: list[_Entry] = []
    with _broken_said():
        if magic.startswith(_GZIP):
            kind, entries = "tar.gz", _tar_entries(file, rules)
        elif magic.startswith(_ZIP):
            kind, entries = "zip", _zip_entries(file, rules)
        else:
            raise UnsafeArchive(Danger.NOT_AN_ARCHIVE, "it is neither a .tar.gz nor a .zip")
        for entry in entries:
            rules.check(entry)
            files += entry.kind is not _Kind.FOLDER
            if entry.kind is _Kind.LINK:
                links.append(entry)
            else:
                _take(entry, rules, folder)
    if files == 0:
        raise UnsafeArchive(Danger.EMPTY, "there is no file in it")
    rules.check_links(links)
    for link in links if folder is not None else ():
        assert folder is not None
        path = folder / link.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(link.link)
    return ArchiveFacts(kind, files, rules.bytes)


@dataclass(slots=True)
class _Rules:
    limits: ArchiveLimits
    compressed: int
    bytes: int = 0
    entries: int = 0
    _seen: dict[str, _Kind] = field(default_factory=dict)
    _parents: set[str] = field(default_factory=set)

    def count(self, size: int, entry: str = "") -> None:
        """So many more bytes come out of it."""
        self.bytes += size
        if self.bytes > self.limits.bytes:
            words = f"it has more than {self.limits.bytes} bytes when it is unpacked"
            raise UnsafeArchive(Danger.TOO_LARGE, words, entry)
        if self.bytes > self.limits.ratio_from and self.bytes > self.limits.ratio * self.compressed:
            words = f"it becomes more than {self.limits.ratio} times as large when it is unpacked"
            raise UnsafeArchive(Danger.BOMB, words, entry)

    def check(self, entry: _Entry) -> None:
        self.entries += 1  # folders may be named again and again
        if self.entries > self.limits.entries:
            raise UnsafeArchive(Danger.TOO_MANY, f"it has more than {self.limits.entries} entries")
        self._check_name(entry.name)
        if entry.mode & (stat.S_ISUID | stat.S_ISGID):
            raise UnsafeArchive(Danger.SET_ID, "it would run as somebody else (its set-ID bit is on)", entry.name)
        before = self._seen.get(entry.name)
        again = before is _Kind.FOLDER and entry.kind is _Kind.FOLDER
        if (before is not None and not again) or (entry.kind is not _Kind.FOLDER and entry.name in self._parents):
            raise UnsafeArchive(Danger.DUPLICATE, "there are two entries of this name", entry.name)
        self._seen[entry.name] = entry.kind
        for parent in _parents(entry.name):
            if parent in self._parents:
                break
            if self._seen.get(parent, _Kind.FOLDER) is not _Kind.FOLDER:
                raise UnsafeArchive(Danger.THROUGH_LINK, f"{parent} is no folder in this archive", entry.name)
            self._parents.add(parent)

    def check_links(self, links: list[_Entry]) -> None:
        """Where a link leads may be another link: each step is followed, none may lead out."""
        targets = {entry.name: entry.link for entry in links}
        for entry in links:
            if entry.link.startswith("/"):
                raise UnsafeArchive(Danger.LINK_OUTSIDE, f"it links to {_shown(entry.link)}", entry.name)
            if not entry.link or "\0" in entry.link or _leads_out(entry.name, targets):
                raise UnsafeArchive(Danger.LINK_OUTSIDE, f"it links to {_shown(entry.link)}", entry.name)

    def _check_name(self, name: str) -> None:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise UnsafeArchive(Danger.NAME_NOT_UTF8, "its name is not UTF-8", name) from None
        parts = name.split("/")
        if name.startswith("/"):
            raise UnsafeArchive(Danger.ABSOLUTE_PATH, "it has an absolute path", name)
        if ".." in parts:
            raise UnsafeArchive(Danger.OUTSIDE, "its path leads out of the folder", name)
        if any(not character.isprintable() for character in name) or "\\" in name or "" in parts:
            raise UnsafeArchive(Danger.BAD_NAME, "its name has characters that a name cannot have here", name)
        if size > self.limits.name_bytes or len(parts) > self.limits.depth or max(map(len, parts)) > 255:
            raise UnsafeArchive(Danger.BAD_NAME, "its name is too long or too deep", name)


def _take(entry: _Entry, rules: _Rules, folder: Path | None) -> None:
    target = None
    if folder is not None:
        path = folder / entry.name
        if entry.kind is _Kind.FOLDER:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            return
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        mode = 0o755 if entry.mode & 0o111 else 0o644
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        source = entry.read() if entry.kind is _Kind.FILE else None
        while source is not None and (piece := source.read(_PIECE)):
            if not isinstance(source, tarfile.ExFileObject):  # those are counted where they are decompressed
                rules.count(len(piece), entry.name)
            view = memoryview(piece)
            while target is not None and view:
                view = view[os.write(target, view) :]
    finally:
        if target is not None:
            os.close(target)


# tar


def _tar_entries(file: BinaryIO, rules: _Rules) -> Iterator[_Entry]:
    stream = _Forward(gzip.GzipFile(fileobj=file, mode="rb"), rules)
    with tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8", errors="surrogateescape") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined] # they would all be kept
            stream.headers = 0
            name = _plain(member.name, folder=member.isdir())
            if name is not None:
                stream.entry = name
                yield _tar_entry(archive, member, name, stream)
            stream.reading = False
    stream.drain()


def _tar_entry(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, stream: "_Forward") -> _Entry:
    def read() -> IO[bytes] | None:
        stream.reading = True
        return archive.extractfile(member)

    if member.islnk():
        raise UnsafeArchive(Danger.HARD_LINK, "it is a hard link: store the file itself", name)
    if member.issym():
        return _Entry(name, _Kind.LINK, 0, member.linkname, lambda: None)
    if member.isdir():
        return _Entry(name, _Kind.FOLDER, member.mode & 0o6777 & ~stat.S_ISGID, "", lambda: None)
    if not member.isreg() or member.issparse():
        raise UnsafeArchive(Danger.SPECIAL_FILE, "it is neither a file nor a folder nor a link", name)
    return _Entry(name, _Kind.FILE, member.mode, "", read)


class _Forward(io.RawIOBase):
    """What is decompressed, as a file that goes forward (and back by a few bytes, as tarfile wants it): counted, and
    with a limit to what headers may have, which tarfile reads into memory whole."""

    def __init__(self, source: gzip.GzipFile, rules: _Rules) -> None:
        super().__init__()
        self._source = source
        self._rules = rules
        self._at = 0
        self._history = b""
        self._back = 0
        self.headers = 0
        self.reading = False
        self.entry = ""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at - self._back

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0, "tarfile counts from the start"
        if offset < self.tell():
            self._back = self._at - offset
            if self._back > len(self._history):
                raise UnsafeArchive(Danger.BROKEN, "its headers do not follow one another", self.entry)
        while self.tell() < offset:
            if not self._next(min(_PIECE, offset - self.tell())):
                break
        return self.tell()

    def read(self, size: int = -1) -> bytes:
        if not self.reading:
            self.headers += max(size, 0)
            if size < 0 or self.headers > _HEADERS_MAX:
                raise UnsafeArchive(Danger.BOMB, f"its header has more than {_HEADERS_MAX} bytes", self.entry)
        found = b""
        while len(found) < size and (piece := self._next(min(_PIECE, size - len(found)))):
            found += piece
        return found

    def drain(self) -> None:
        """To the end, where the check sum is."""
        while self._next(_PIECE):
            pass

    def _next(self, size: int) -> bytes:
        if self._back:
            start = len(self._history) - self._back
            piece = self._history[start : start + size]
            self._back -= len(piece)
            return piece
        piece = self._source.read(size)
        self._at += len(piece)
        self._rules.count(len(piece), self.entry)
        self._history = (self._history + piece[-_HISTORY:])[-_HISTORY:]
        return piece


# zip


def _zip_entries(file: BinaryIO, rules: _Rules) -> Iterator[_Entry]:
    _check_end_record(file, rules.compressed)
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = _plain(info.orig_filename, folder=info.is_dir())
            if name is None:
                continue
            if not info.flag_bits & 0x800 and not info.orig_filename.isascii():
                raise UnsafeArchive(Danger.NAME_NOT_UTF8, "its name is not UTF-8", name)
            yield _zip_entry(archive, info, name)


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> _Entry:
    if info.flag_bits & 0x1:
        raise UnsafeArchive(Danger.ENCRYPTED, "it is encrypted", name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeArchive(Danger.METHOD, "it is compressed in a way that is not taken: use deflate", name)
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        if info.file_size > _LINK_MAX:
            raise UnsafeArchive(Danger.LINK_OUTSIDE, "it is a link with too long a target", name)
        return _Entry(name, _Kind.LINK, 0, os.fsdecode(archive.read(info)), lambda: None)
    if info.is_dir():
        return _Entry(name, _Kind.FOLDER, mode & 0o6777 & ~stat.S_ISGID, "", lambda: None)
    if kind not in (0, stat.S_IFREG):
        raise UnsafeArchive(Danger.SPECIAL_FILE, "it is neither a file nor a folder nor a link", name)
    return _Entry(name, _Kind.FILE, mode, "", lambda: archive.open(info))


def _check_end_record(file: BinaryIO, size: int) -> None:
    """Before the list of entries is read into memory."""
    tail_size = min(size, _END_RECORD.size + 0xFFFF)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END_RECORD.size:
        raise UnsafeArchive(Danger.BROKEN, "its end is missing: it was cut off")
    signature, back = _ZIP64_LOCATOR
    if at >= back and tail[at - back : at].startswith(signature):
        raise UnsafeArchive(Danger.METHOD, "it is in the format for very large archives (zip64): use .tar.gz")
    directory = _END_RECORD.unpack_from(tail, at)[5]
    if directory > _DIRECTORY_MAX:
        raise UnsafeArchive(Danger.TOO_MANY, f"its list of entries has more than {_DIRECTORY_MAX} bytes")
    file.seek(0)


# both


def _plain(name: str, *, folder: bool) -> str | None:
    """Without `./` before it and `/` after a folder; None: the folder itself."""
    while name.startswith("./"):
        name = name[2:]
    if folder:
        name = name.rstrip("/") if name.strip("/") else name
    return None if name in ("", ".") else name


def _parents(name: str) -> Iterator[str]:
    """From the nearest to the farthest."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _leads_out(name: str, targets: dict[str, str]) -> bool:
    """Whether following the link goes above the folder at any step, or in a circle."""
    here = [part for part in posixpath.dirname(name).split("/") if part]
    todo = targets[name].split("/")[::-1]
    steps = 0
    while todo:
        steps += 1
        part = todo.pop()
        if steps > 1000:
            return True
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                return True
            here.pop()
            continue
        here.append(part)
        if (further := targets.get("/".join(here))) is not None:
            if further.startswith("/"):
                return True
            here.pop()
            todo.extend(further.split("/")[::-1])
    return False


@contextmanager
def _broken_said() -> Iterator[None]:
    try:
        yield
    except (
        EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, struct.error, UnicodeDecodeError,
        NotImplementedError, OverflowError,
    ) as error:  # fmt: skip
        raise UnsafeArchive(Danger.BROKEN, f"it is damaged or was cut off ({error})") from error


def _shown(name: str) -> str:
    return repr(name[:200].encode(errors="replace").decode())
