"""Device nodes of the accelerators an instance was given: those and no others."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SHARED: Final = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
"""Needed by every user of any GPU; they give access to none by themselves."""
_INDEXES: Final = re.compile(r"\d+(,\d+)*")
_LIBRARIES: Final = ("libcuda.so*", "libnvidia-*.so*", "libnvcuvid.so*", "libcudadebugger.so*")
_LIBRARY_FOLDERS: Final = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib")
_PROGRAMS: Final = ("nvidia-smi", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")


class NoSuchDevice(RuntimeError):
    """The instance was given an accelerator that this node does not have."""


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """`path` as in /dev, with what the kernel knows it by."""

    path: str
    kind: str
    """`c` or `b`."""
    major: int
    minor: int
    source: str
    """Where it is on the node."""


def leased(visible: str | None) -> tuple[int, ...]:
    """Indexes of `CUDA_VISIBLE_DEVICES` as the engine sets it. Raises NoSuchDevice for what it never sets."""
    if not visible:
        return ()
    if not _INDEXES.fullmatch(visible):
        raise NoSuchDevice(f"CUDA_VISIBLE_DEVICES={visible!r} is no list of indexes")
    return tuple(sorted(set(map(int, visible.split(",")))))


def nodes_of(indexes: Sequence[int], dev: Path = Path("/dev")) -> list[DeviceNode]:
    """Device nodes of these GPUs, with what every GPU needs; nothing for none. Raises NoSuchDevice."""
    if not indexes:
        return []
    found = []
    for index in indexes:
        node = _node(dev / f"nvidia{index}", f"/dev/nvidia{index}")
        if node is None:
            raise NoSuchDevice(f"accelerator {index} is not on this node: there is no /dev/nvidia{index}")
        found.append(node)
    found += [node for name in _SHARED if (node := _node(dev / name, f"/dev/{name}")) is not None]
    return found


def driver_files(root: Path = Path("/")) -> list[str]:
    """The node's user-space part of the GPU driver, which has to fit its kernel module: absolute paths, sorted."""
    found: set[Path] = set()
    for folder in _LIBRARY_FOLDERS:
        for pattern in _LIBRARIES:
            found.update(path for path in (root / folder).glob(pattern) if path.is_file())
    found.update(path for name in _PROGRAMS if (path := root / "usr/bin" / name).is_file())
    return sorted("/" + str(path.relative_to(root)) for path in found)


def _node(source: Path, path: str) -> DeviceNode | None:
    try:
        info = source.stat()
    except OSError:
        return None
    kind = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else ""
    if not kind:
        return None
    return DeviceNode(path, kind, os.major(info.st_rdev), os.minor(info.st_rdev), str(source))
