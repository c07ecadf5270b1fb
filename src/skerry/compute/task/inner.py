"""The first process in the sandbox: becomes the project's user, starts the command, passes signals on, and tells the
wrapper exactly how the command ended. It ends with the wrapper, and the sandbox ends with it.

Run as a script by `python -I -S`: standard library only, nothing of Skerry. It speaks with the wrapper over the socket
whose descriptor is its only argument: the wrapper sends `Start` as one line of JSON, then the numbers of signals, one
byte each; it answers with the listening socket of the relay (once, before `Start`), and at the end with the status.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
from typing import Any

STATUS = struct.Struct("<i")
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER = 1, 4, 24, 38, 36
_CAPABILITY_VERSION = 0x20080522
_NOT_TO_BE_SET = {signal.SIGKILL, signal.SIGSTOP, 32, 33}
_NOT_FOUND, _NOT_EXECUTABLE, _NO_ISOLATION = 127, 126, 78


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    relay = socket.create_server(("127.0.0.1", 0), backlog=64)
    socket.send_fds(control, [struct.pack("<H", relay.getsockname()[1])], [relay.fileno()])
    relay.close()
    start = _read_line(control)
    _check_mounts(start)
    # Signals come as bytes, and children's ends through this pipe: both are waited for at once.
    woken, wake = os.pipe()
    for fd in (woken, wake):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        _become_the_command(start)
    _drop(start)
    libc = ctypes.CDLL(None)
    if os.getpid() == 1:  # outside of a sandbox we have to live for a moment longer, to end the group
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user has cleared it
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # the command is of the same user, and must not trace us
    status = _follow(control, woken, child)
    with contextlib.suppress(OSError):
        control.sendall(STATUS.pack(status))
    _end_group(child)
    os._exit(0)


def _read_line(control: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        part = control.recv(1 << 16)
        if not part:
            os._exit(1)
        data += part
    found: dict[str, Any] = json.loads(data)
    return found


def _check_mounts(start: dict[str, Any]) -> None:
    """Between the look at a folder and its mounting the project may have put a link to another one there."""
    for path, (device, inode) in start["mounted"]:
        found = os.stat(path)  # noqa: PTH116 - fewer imports
        if (found.st_dev, found.st_ino) != (device, inode):
            _say(f"{path}: another folder has come to its place", _NO_ISOLATION)


def _follow(control: socket.socket, woken: int, child: int) -> int:
    """The wait status of the command. Does not return when the wrapper dies."""
    waited: list[Any] = [control, woken]
    while True:
        readable, _, _ = select.select(waited, [], [])
        if woken in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 512)
            if (status := _reap(child)) is not None:
                return status
        if control in readable:
            numbers = control.recv(64)
            if not numbers:
                _end_group(child)
                os._exit(1)
            for number in numbers:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, number)


def _reap(child: int) -> int | None:
    """All that has ended: what the command left behind becomes our child."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def _end_group(child: int) -> None:
    """In a sandbox the kernel ends everything when this process does; outside it the group has to do."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _become_the_command(start: dict[str, Any]) -> None:
    """Does not return."""
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - _NOT_TO_BE_SET:  # we and Python ignore some, and exec would keep that
            signal.signal(number, signal.SIG_DFL)
        # A group, not a session: an agent that comes back takes the leader of a session for the task itself.
        os.setpgid(0, 0)
        _drop(start)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.umask(start["umask"])
    except OSError as error:
        _say(f"the task cannot become its project's user: {error}", _NO_ISOLATION)
    command, env = start["command"], start["env"]
    try:
        os.chdir(start["folder"])
    except OSError as error:
        _say(f"its folder cannot be entered: {error}", _NO_ISOLATION)
    try:
        os.execvpe(command[0], command, env)  # noqa: S606
    except (FileNotFoundError, NotADirectoryError):
        _say(f"no such command: {command[0]} (or the interpreter it names is missing)", _NOT_FOUND)
    except (OSError, ValueError) as error:
        _say(f"the command cannot be executed: {command[0]}: {error}", _NOT_EXECUTABLE)


def _drop(start: dict[str, Any]) -> None:
    """For good: no capabilities, none to be gained, no other groups."""
    libc = ctypes.CDLL(None)
    if os.geteuid() == 0 and start["uid"] is not None:
        for capability in range(64):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                break
        os.setgroups([])
        os.setresgid(start["gid"], start["gid"], start["gid"])
        os.setresuid(start["uid"], start["uid"], start["uid"])
        # What a change of user leaves: capabilities that a program could inherit.
        libc.capset(struct.pack("<II", _CAPABILITY_VERSION, 0), bytes(24))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _say(words: str, code: int) -> None:
    os.write(2, f"skerry: {words}\n".encode(errors="replace"))
    os._exit(code)


if __name__ == "__main__":
    main()
