"""System calls that Python 3.11 has no functions for. Everything raises OSError with the call's name."""

import ctypes
import os
import platform
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2

_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_MOUNT_ATTR_IDMAP: Final = 0x00100000
ATTR_RDONLY: Final = 1
ATTR_NOSUID: Final = 2
ATTR_NODEV: Final = 4
ATTR_NOEXEC: Final = 8
# The same numbers on every architecture since Linux 5.2.
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
_SYS_MOUNT_SETATTR: Final = 442
_SYS_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_SYS_CAPSET: Final = {"x86_64": 126, "aarch64": 91}

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
        ),
        f"mount {kind or source} on {target}",
    )


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    """Of the calling thread alone."""
    _check(_libc.setns(fd, kind), "setns")


def sethostname(name: str) -> None:
    _check(_libc.sethostname(name.encode(), len(name.encode())), "sethostname")


def pivot_root(new: str, old: str) -> None:
    _check(_libc.syscall(_number(_SYS_PIVOT_ROOT), new.encode(), old.encode()), f"pivot_root {new}")


def die_with_parent(number: int) -> None:
    """Get this signal when the thread that started us ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")


def keep_capabilities(kept: frozenset[int], last: int) -> None:
    """Give up all capabilities but these, for good, up to number `last`."""
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(last + 1):
        if capability not in kept:
            _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")
    low = sum(1 << number for number in kept if number < 32)
    high = sum(1 << (number - 32) for number in kept if number >= 32)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    _check(_libc.syscall(_number(_SYS_CAPSET), header, data), "capset")


def clone_tree(source: str, attributes: int = 0, userns: int | None = None, *, recursive: bool = False) -> int:
    """A detached bind of `source`, as a descriptor for `move_tree`. Linux ≥ 5.12.

    With `userns` (a descriptor) users of its files appear as that user namespace maps them; file systems that cannot
    answer EINVAL.
    """
    more = _AT_RECURSIVE if recursive else 0
    tree: int = _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, source.encode(), _OPEN_TREE_CLONE | os.O_CLOEXEC | more)
    _check(tree, f"open_tree {source}")
    wanted = attributes | (_MOUNT_ATTR_IDMAP if userns is not None else 0)
    if not wanted:
        return tree
    attr = _MountAttr(wanted, 0, 0, userns or 0)
    try:
        _check(
            _libc.syscall(
                _SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | more, ctypes.byref(attr), ctypes.sizeof(attr)
            ),
            f"mount {source} with {'mapped users' if userns is not None else 'its flags'}",
        )
    except OSError:
        os.close(tree)
        raise
    return tree


def move_tree(tree: int, target: str) -> None:
    """Attach what `clone_tree` gave."""
    _check(
        _libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH),
        f"mount on {target}",
    )


def _number(numbers: dict[str, int]) -> int:
    try:
        return numbers[platform.machine()]
    except KeyError:
        raise OSError(38, f"no system call numbers for {platform.machine()}") from None


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
