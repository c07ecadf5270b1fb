"""Reading /proc: who a process is, how it ended, and which processes carry our mark."""

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENGINE_MARK: Final = "SKERRY_ENGINE"
ATTEMPT_MARK: Final = "SKERRY_ATTEMPT"
RANK_MARK: Final = "SKERRY_RANK"

_PROC: Final = Path("/proc")
# struct pidfd_info of <linux/pidfd.h>: u64 mask, u64 cgroupid, 11 × u32, s32 exit_code. Kernels ≥ 6.15 keep the exit
# status in it for whoever held the pidfd, parent or not; older ones refuse the call.
_PIDFD_INFO: Final = struct.Struct("<QQ11Ii")
_PIDFD_GET_INFO: Final = (3 << 30) | (_PIDFD_INFO.size << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT: Final = 1 << 3


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Some fields of proc(5) `/proc/[pid]/stat`. `start_ticks` and the boot make a pid unique."""

    pid: int
    state: str
    group: int
    session: int
    start_ticks: int
    exit_status: int

    @property
    def zombie(self) -> bool:
        return self.state in "ZX"


@dataclass(frozen=True, slots=True)
class MarkedProcess:
    """A process that was started by an engine's task, or by something that the task started."""

    stat: ProcessStat
    attempt: str
    rank: int


def boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def read_stat(pid: int) -> ProcessStat | None:
    """None: there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name in parentheses may itself contain anything, so what follows is found from the right.
    fields = text[text.rindex(")") + 2 :].split()
    return ProcessStat(
        pid=pid,
        state=fields[0],
        group=int(fields[2]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
        exit_status=int(fields[49]),
    )


def open_process(pid: int, start_ticks: int) -> int | None:
    """A pidfd of exactly this process, a zombie included; None where it is gone or the number is somebody else's."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    stat = read_stat(pid)  # asked after the fd is held: from here on the number cannot change hands unnoticed
    if stat is None or stat.start_ticks != start_ticks:
        os.close(fd)
        return None
    return fd


def kill_process(stat: ProcessStat, number: int = signal.SIGKILL) -> None:
    """Send a signal to exactly this process, if it still is there."""
    fd = open_process(stat.pid, stat.start_ticks)
    if fd is None:
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


def kill_group(leader: int, number: int) -> None:
    """Signal a process group. Only while its leader exists, be it as a zombie: until then the number is its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def exit_status(pid: int, fd: int) -> int | None:
    """The wait status of a process that ended and is not our child; None: not to be had (yet).

    A zombie shows it in its stat to whoever may trace it; later the kernel may keep it for holders of a pidfd.
    """
    stat = read_stat(pid)
    if stat is not None and stat.zombie:
        return stat.exit_status
    buffer = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(fd, _PIDFD_GET_INFO, buffer)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ESRCH, errno.EOPNOTSUPP):
            return None
        raise
    fields = _PIDFD_INFO.unpack(buffer)
    return int(fields[-1]) if fields[0] & _PIDFD_INFO_EXIT else None


def marked_processes(engine: str) -> Iterator[MarkedProcess]:
    """Living processes whose environment, as it was at their start, carries this engine's mark."""
    mark = f"{ENGINE_MARK}={engine}".encode()
    for entry in os.listdir(_PROC):
        if not entry.isdigit():
            continue
        try:
            environment = (_PROC / entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or another user's
            continue
        if mark not in environment:
            continue
        values = dict(part.decode(errors="replace").partition("=")[::2] for part in environment)
        stat = read_stat(int(entry))
        rank = values.get(RANK_MARK, "")
        if stat is not None and not stat.zombie and rank.isdigit():
            yield MarkedProcess(stat, values.get(ATTEMPT_MARK, ""), int(rank))
