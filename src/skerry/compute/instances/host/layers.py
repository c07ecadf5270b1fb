"""Unpacking images: OCI layouts, archives of them, `docker save`, and plain archives of a root folder.

Layers are unpacked by a child whose root folder is the one being made, so that no link in them leads to a file of the
node. Names with `..`, device nodes, wrong checksums and bombs are refused.
"""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Protocol, cast

LAYOUT: Final = "oci-layout"
INDEX: Final = "index.json"
_DOCKER: Final = "manifest.json"
_ENV: Final = "env.json"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_DOCUMENT_BYTES: Final = 4 << 20
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_REF: Final = "org.opencontainers.image.ref.name"
_MOST_BYTES: Final = 128 << 30
_MOST_FILES: Final = 4_000_000
_RATIO: Final = 250
_RATIO_FROM: Final = 64 << 20
"""Below this nothing is called a bomb."""


class BadImage(RuntimeError):
    """The image cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an unpacked image may have in all; `ratio` is of bytes to packed bytes."""

    bytes: int = _MOST_BYTES
    files: int = _MOST_FILES
    ratio: int = _RATIO
    ratio_from: int = _RATIO_FROM


class Source(Protocol):
    """Files of a layout, in a folder or an archive."""

    def open(self, name: str) -> IO[bytes]:
        """Raises BadImage."""
        ...

    def has(self, name: str) -> bool: ...


def unpack(path: Path, tag: str, machine: str, target: Path, bounds: Bounds | None = None) -> None:
    """Make `target` with `root/` and the image's environment. Raises BadImage, OSError."""
    target.mkdir(mode=0o700, parents=True)
    root = target / "root"
    root.mkdir(mode=0o755)
    env: dict[str, str] = {}
    try:
        if path.is_dir():
            env = _unpack_layers(_Folder(path), path.name, tag, machine, root, bounds or Bounds())
        else:
            with tarfile.open(path) as archive:
                source = _Archive(archive)
                if source.has(INDEX) or source.has(_DOCKER):
                    env = _unpack_layers(source, path.name, tag, machine, root, bounds or Bounds())
                else:
                    _in_child(root, [lambda: path.open("rb")], path.name, bounds or Bounds())
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise BadImage(f"image {path.name}: it is no readable archive: {error}") from error
    (target / _ENV).write_text(json.dumps(env))


def read_env(target: Path) -> dict[str, str]:
    return cast(dict[str, str], json.loads((target / _ENV).read_text()))


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def open(self, name: str) -> IO[bytes]:
        try:
            return (self._folder / name).open("rb")
        except OSError as error:
            raise BadImage(f"image: {name} is missing in the layout") from error


class _Archive:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {member.name.removeprefix("./"): member for member in archive.getmembers()}

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        file = self._archive.extractfile(member) if member is not None else None
        if file is None:
            raise BadImage(f"image: {name} is missing in the archive")
        return file


def _unpack_layers(source: Source, name: str, tag: str, machine: str, root: Path, bounds: Bounds) -> dict[str, str]:
    """The environment of its configuration."""
    if source.has(INDEX):
        manifest = _manifest(source, name, tag, machine)
        config = _document(source, _blob(manifest["config"]))
        packed = [_checked(source, layer) for layer in manifest["layers"]]
    else:
        entries = _json(source, _DOCKER)
        chosen = next(
            (entry for entry in entries if not tag or any(t.endswith(f":{tag}") for t in entry["RepoTags"])), None
        )
        if chosen is None:
            raise BadImage(f"image {name}: it has no tag {tag!r}")
        config = _json(source, chosen["Config"])
        packed = [str(layer) for layer in chosen["Layers"]]
    wanted = _ARCHITECTURES.get(machine, machine)
    if config.get("architecture", wanted) != wanted:
        raise BadImage(f"image {name} is for {config['architecture']}, this node is {wanted}")
    _in_child(root, [lambda layer=layer: source.open(layer) for layer in packed], name, bounds)
    pairs = [str(entry).partition("=") for entry in (config.get("config") or {}).get("Env") or []]
    return {key: value for key, _, value in pairs if _NAME.fullmatch(key) and "\n" not in value}


def _manifest(source: Source, name: str, tag: str, machine: str) -> dict[str, Any]:
    """Through indexes of indexes, to the manifest of this machine's architecture."""
    found = _json(source, INDEX)
    for _ in range(4):
        if "layers" in found:
            return cast(dict[str, Any], found)
        entries = found.get("manifests") or []
        if tag:
            entries = [entry for entry in entries if (entry.get("annotations") or {}).get(_REF, tag) == tag]
        wanted = _ARCHITECTURES.get(machine, machine)
        fitting = [entry for entry in entries if (entry.get("platform") or {}).get("architecture", wanted) == wanted]
        if not fitting:
            raise BadImage(f"image {name}: there is nothing for {wanted}{f' with tag {tag!r}' if tag else ''} in it")
        found = _document(source, _blob(fitting[0]))
    raise BadImage(f"image {name}: its index has too many levels")


def _blob(descriptor: Any) -> str:
    digest = str(descriptor.get("digest", ""))
    if not _DIGEST.fullmatch(digest):
        raise BadImage(f"image: {digest!r} is not a sha256 digest")
    return "blobs/" + digest.replace(":", "/")


def _checked(source: Source, descriptor: Any) -> str:
    """The name of a layer whose bytes are what its digest says."""
    name, kind = _blob(descriptor), str(descriptor.get("mediaType", ""))
    if kind.endswith("zstd"):
        raise BadImage(
            "image: a layer is packed with zstd; pack it with gzip (skopeo copy --dest-compress-format gzip)"
        )
    with source.open(name) as file:
        digest = _sha256(file)
    if name.rpartition("/")[2] != digest:
        raise BadImage(f"image: the layer {name} does not have its checksum")
    return name


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while data := file.read(1 << 20):
        digest.update(data)
    return digest.hexdigest()


def _document(source: Source, name: str) -> dict[str, Any]:
    with source.open(name) as file:
        data = file.read(_DOCUMENT_BYTES)
    if name.startswith("blobs/") and hashlib.sha256(data).hexdigest() != name.rpartition("/")[2]:
        raise BadImage(f"image: {name} does not have its checksum")
    return cast(dict[str, Any], _parsed(data, name))


def _json(source: Source, name: str) -> Any:
    with source.open(name) as file:
        return _parsed(file.read(_DOCUMENT_BYTES), name)


def _parsed(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise BadImage(f"image: {name} is no JSON") from error


def _in_child(root: Path, opened: Sequence[Any], name: str, bounds: Bounds) -> None:
    """Unpack layers with `root` as the root folder. Raises BadImage."""
    files = [open_one() for open_one in opened]
    read, write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chroot(root)
            os.chdir("/")
            os.umask(0)
            unpacker = _Unpacker(bounds)
            for file in files:
                unpacker.layer(file)
            code = 0
        except BaseException as error:
            os.write(write, str(error).encode()[:2000])
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        words = pipe.read().decode(errors="replace")
    failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    for file in files:
        file.close()
    if failed:
        raise BadImage(f"image {name}: {words or 'it could not be unpacked'}")


class _Counted(io.RawIOBase):
    """Counts the packed bytes that were read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.count = 0
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data


class _Unpacker:
    """Applies layers to `/`. Only ever in a child that has a root folder of its own."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._bytes = 0
        self._files = 0

    def layer(self, file: IO[bytes]) -> None:
        packed = _Counted(file)
        times: list[tuple[str, float]] = []
        with tarfile.open(fileobj=cast(IO[bytes], packed), mode="r|*", bufsize=1 << 20) as archive:
            for member in archive:
                path = _path(member.name)
                if path is None:
                    continue
                self._count(member, packed.count)
                if not self._whiteout(path):
                    self._make(archive, member, path)
                    if member.isdir():
                        times.append((str(path), member.mtime))
        for name, mtime in times:
            if Path(name).is_dir() and not Path(name).is_symlink():
                os.utime(name, (mtime, mtime))

    def _count(self, member: tarfile.TarInfo, packed: int) -> None:
        self._files += 1
        self._bytes += max(member.size, 0)
        if self._files > self._bounds.files or self._bytes > self._bounds.bytes:
            raise BadImage(f"it has more than {self._bounds.files} files or {self._bounds.bytes} bytes")
        if self._bytes > self._bounds.ratio_from and self._bytes > packed * self._bounds.ratio:
            raise BadImage("it unpacks to far more than it is: it looks like a bomb")

    def _whiteout(self, path: PurePosixPath) -> bool:
        """A lower layer's file that is gone from here on."""
        if path.name == _OPAQUE:
            for entry in Path(path.parent).iterdir() if Path(path.parent).is_dir() else ():
                _remove(entry)
            return True
        if path.name.startswith(_WHITEOUT):
            _remove(Path(path.parent) / path.name.removeprefix(_WHITEOUT))
            return True
        return False

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        here = Path(path)
        if not here.parent.is_dir():
            Path(os.path.realpath(here.parent)).mkdir(mode=0o755, parents=True, exist_ok=True)  # a link to nothing yet
        if not (member.isdir() and here.is_dir() and not here.is_symlink()):
            _remove(here)
        if member.isdir():
            here.mkdir(exist_ok=True)
        elif member.isreg():
            source = archive.extractfile(member)
            assert source is not None
            with here.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        elif member.issym():
            here.symlink_to(member.linkname)
        elif member.islnk():
            target = _path(member.linkname)
            if target is None or not os.path.lexists(target):
                raise BadImage(f"{member.name} is a link to {member.linkname}, which is not in it")
            os.link(target, here, follow_symlinks=False)
            return
        elif member.isfifo():
            os.mkfifo(here)
        else:
            return  # a device node: instances get theirs from the node
        os.chown(here, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            here.chmod(member.mode & 0o7777)
            os.utime(here, (member.mtime, member.mtime))


def _path(name: str) -> PurePosixPath | None:
    """Its place below `/`; None: the root folder itself. Raises BadImage."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise BadImage(f"{name!r} leads out of the folder: absolute names and `..` are not taken")
    return PurePosixPath("/") / path if path.parts else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
