"""A rank, right after the fork: made like a fresh process, then it becomes the customer's program."""

import atexit
import contextlib
import faulthandler
import os
import random
import resource
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from skerry.training.forkserver import processes, pulse

_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
_OWN_FRAMES: Final = ("skerry/training/forkserver/", "<frozen runpy>")


@dataclass(slots=True)
class Child:
    """`output`, `steps`: descriptors for what it writes and for its steps. `limits` by RLIMIT number."""

    kind: str
    target: str
    arguments: Sequence[str]
    folder: str
    env: Mapping[str, str]
    output: int
    steps: int
    limits: Mapping[int, tuple[int, int]]

    def run(self) -> None:
        """Does not return."""
        code = 1
        try:
            self._become_fresh()
            code = self._execute() if self.kind == "executable" else self._python()
        finally:
            _leave(code)

    def _become_fresh(self) -> None:
        os.setsid()
        processes.call_it(f"rank {self.env.get('RANK', '?')}")
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError, ValueError):
                if signal.getsignal(number) is not None:
                    signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for which, pair in self.limits.items():
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(which, pair)
        self._redirect()
        os.chdir(self.folder)
        os.environ.update(self.env)
        os.environ["SKERRY_STEP_FD"] = str(self.steps)
        _seed()

    def _redirect(self) -> None:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(self.output, 1)
        os.dup2(self.output, 2)
        os.close(self.output)
        os.set_inheritable(self.steps, True)
        # Objects of the parent's that wrote elsewhere are of no use; lines are passed on as they come.
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115

    def _execute(self) -> int:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            os.execvpe(  # noqa: S606 - that is what is asked for
                self.target, [self.target, *self.arguments], os.environ
            )
        except OSError as error:
            print(f"skerry: cannot run {self.target!r}: {error.strerror}", file=sys.stderr)  # noqa: T201 - the rank's own log
            return _NOT_FOUND if isinstance(error, FileNotFoundError | NotADirectoryError) else _NOT_EXECUTABLE

    def _python(self) -> int:
        faulthandler.enable(file=2)
        faulthandler.register(signal.SIGUSR2, file=2, all_threads=True, chain=False)
        pulse.install()
        script = self.kind == "script"
        sys.argv = [self.target, *self.arguments]
        sys.path[0] = str(Path(self.target).absolute().parent) if script else self.folder
        try:
            if script:
                runpy.run_path(self.target, run_name="__main__")
            else:
                runpy.run_module(self.target, run_name="__main__", alter_sys=True)
        except SystemExit as error:
            return _exit_code(error)
        except BaseException as error:
            _print_exception(error)
            return 130 if isinstance(error, KeyboardInterrupt) else 1
        return 0


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    return 1


def _print_exception(error: BaseException) -> None:
    """As the interpreter does, without the frames that are ours."""
    hook = sys.excepthook
    trace = error.__traceback__
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    error.__traceback__ = trace
    try:
        hook(type(error), error, trace)
    except Exception:  # the customer's own hook
        traceback.print_exception(error)


def _is_ours(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_code.co_filename.replace(os.sep, "/")
    return any(part in name for part in _OWN_FRAMES)


def _seed() -> None:
    """What was seeded once in the parent would be the same in every rank and generation."""
    random.seed()
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _leave(code: int) -> None:
    """End as an interpreter does, but without taking apart what is shared with the parent."""
    for finish in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):  # type: ignore[attr-defined]
        with contextlib.suppress(Exception):
            finish()
    os._exit(code)
