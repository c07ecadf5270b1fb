"""Images of instances: a prepared root folder, an OCI layout, or an archive (OCI, `docker save`, or of a root folder).

They lie below the operator's folder of images; archives and layouts are unpacked once, beside it, and never changed
again: instances write into an overlay.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from skerry.compute.instances.host import layers
from skerry.compute.instances.host.layers import BadImage
from skerry.compute.instances.host.rootfs import Base
from skerry.compute.instances.host.spec import InstanceSpec

UNPACKED: Final = ".unpacked"
_SHELLS: Final = ("/bin/bash", "/bin/ash", "/bin/sh")
_TABLE_BYTES: Final = 1 << 20


def find(spec: InstanceSpec) -> Base:
    """What the instance stands on; an image that was never used is unpacked first. Raises BadImage."""
    options = spec.options
    if spec.image is None:
        return Base(None) if options.base == "/" else _base(Path(options.base), {})
    if not options.images:
        raise BadImage(f"image {spec.image!r}: this cloud has no images for instances; leave `image` out")
    folder = Path(options.images).resolve()
    path, tag = _located(folder, spec.image)
    if path.is_dir() and not (path / layers.LAYOUT).is_file():
        return _base(path, {})
    root, env = unpacked(path, tag, folder / UNPACKED)
    return _base(root, env)


def unpacked(path: Path, tag: str, store: Path) -> tuple[Path, dict[str, str]]:
    """The root folder of a layout or archive, and its environment. Raises BadImage."""
    key = _key(path, tag)
    with _locked(store, key):
        made = store / key
        if not (made / "root").is_dir():
            part = store / f"{key}.part"
            shutil.rmtree(part, ignore_errors=True)
            try:
                layers.unpack(path, tag, platform.machine(), part)
                part.rename(made)
            except OSError as error:
                raise BadImage(f"image {path.name}: it cannot be unpacked here: {error}") from error
            finally:
                shutil.rmtree(part, ignore_errors=True)
        return made / "root", layers.read_env(made)


def read_inside(root: Path, name: str) -> str:
    """A small file of a root folder, without following any link: it must not show a file of the node. Else empty."""
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        *folders, last = name.split("/")
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(last, flags, dir_fd=folder), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            return file.read(_TABLE_BYTES).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(folder)


def _located(folder: Path, name: str) -> tuple[Path, str]:
    """The file or folder, and which tag of it. Raises BadImage."""
    base, colon, tag = name.rpartition(":")
    for wanted, which in ((name, ""), *([(base, tag)] if colon else [])):
        path = (folder / wanted).resolve()
        if folder not in path.parents:
            raise BadImage(f"image {name!r} leads out of the operator's folder of images")
        if path.exists() and UNPACKED not in path.relative_to(folder).parts:
            return path, which
    raise BadImage(f"image {name!r} is not there: ask the operator which there are, or leave `image` out")


def _base(root: Path, env: dict[str, str]) -> Base:
    if not root.is_dir():
        raise BadImage(f"the root folder {root} is not there")
    shell = next((path for path in _SHELLS if _is_inside(root, path)), "/bin/sh")
    return Base(str(root), env, read_inside(root, "etc/passwd"), read_inside(root, "etc/group"), shell)


def _is_inside(root: Path, program: str) -> bool:
    """As far as links do not lead elsewhere: /bin may be one to usr/bin."""
    return any(os.path.lexists(root / place) for place in (program[1:], f"usr{program}"))


def _key(path: Path, tag: str) -> str:
    """Changes with the file; a layout changes with its index."""
    info = (path / layers.INDEX if path.is_dir() else path).stat()
    text = f"{path}:{tag}:{info.st_size}:{info.st_mtime_ns}:{info.st_ino}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@contextmanager
def _locked(store: Path, key: str) -> Iterator[None]:
    store.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(store / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
