"""One rank of a gang: started or adopted, watched, and collected when it ends."""

import asyncio
import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from skerry.compute.engines.base import EndCause, Limits, RankEnd, RankState
from skerry.compute.engines.embedded import ending, processes, spawn
from skerry.compute.engines.embedded.ending import Evidence
from skerry.compute.engines.embedded.logfile import LogFile
from skerry.compute.engines.embedded.processes import MarkedProcess
from skerry.compute.engines.embedded.records import RankRecord
from skerry.kernel.clock import Clock

_REPORT_MAX: Final = 64 << 10
_SWEEP_SECONDS: Final = 5.0
_EXIT_STATUS_TRIES: Final = 20
_PAUSE_SECONDS: Final = 0.02


class Warns(Protocol):
    """As much of a logger as a task needs: on a fleet's nodes a whole one would cost most of their start-up time."""

    def warning(self, event: str, **words: object) -> object: ...


class Task:
    """`asked` says why the agent is ending it, once it is. All methods run in the event loop's thread."""

    def __init__(
        self,
        record: RankRecord,
        *,
        limits: Limits,
        work: Path,
        log: LogFile,
        engine: str,
        clock: Clock,
        log_to: Warns,
    ) -> None:
        self.record = record
        self.log = log
        self.work = work
        self.asked: EndCause | None = None
        self.adopted = False
        self.ended = asyncio.Event()
        self._limits = limits
        self._engine = engine
        self._clock = clock
        self._signals_sent: set[int] = set()
        self._popen: subprocess.Popen[bytes] | None = None
        self._pidfd: int | None = None
        self._report_seen: tuple[int, int] | None = None
        self._log = log_to

    @property
    def live(self) -> bool:
        return self._pidfd is not None

    def start(self, launch: spawn.Launch) -> None:
        """Raises OSError where the command cannot be executed."""
        self._popen = spawn.start(launch)
        pid = self._popen.pid
        self._pidfd = os.pidfd_open(pid)
        process = processes.read_stat(pid)
        assert process is not None, "our own child stays in /proc until we collect it"
        self.record.pid, self.record.start_ticks = pid, process.start_ticks
        self.record.started_at = self._clock.now()

    def adopt(self, found: MarkedProcess | None) -> bool:
        """Take over a task of an agent that died. `found` is a process with its mark, for a record without a pid.

        A zombie counts: its exit status may still be read. False: there is nothing to take over.
        """
        if self.record.pid is None and found is not None and found.stat.session == found.stat.pid:
            self.record.pid, self.record.start_ticks = found.stat.pid, found.stat.start_ticks
            self.record.started_at = self._clock.now()
        if self.record.pid is None or self.record.boot != processes.boot_id():
            return False
        self._pidfd = processes.open_process(self.record.pid, self.record.start_ticks)
        self.adopted = self._pidfd is not None
        return self.adopted

    def watch(self, on_exit: Callable[[], None]) -> None:
        """Call back once, when the process has ended."""
        assert self._pidfd is not None
        loop, fd = asyncio.get_running_loop(), self._pidfd

        def readable() -> None:
            loop.remove_reader(fd)
            on_exit()

        loop.add_reader(fd, readable)

    def ask_to_end(self, cause: EndCause) -> None:
        self.asked = self.asked or cause
        self._signal_group(signal.SIGTERM)

    def send(self, number: int) -> None:
        """A signal that the owner wants; what it does is then not our fault."""
        self._signals_sent.add(number)
        self._signal_group(number)

    def kill(self) -> None:
        """Everything of it, also what has left the process group."""
        self._signal_group(signal.SIGKILL)
        self._kill_leftovers()

    async def collect(self) -> RankEnd:
        """After its end: fetch the exit status, end what it left behind, clear its folder, and judge."""
        at = self._clock.now()
        self.read_report()
        status, cpu_seconds = await self._collect_status()
        await self._sweep()
        end = ending.judge(
            Evidence(
                at=at,
                status=status,
                asked=self.asked,
                signals_sent=frozenset(self._signals_sent),
                oom_kills=self.record.group.oom_kills() if self.record.group else 0,
                cpu_seconds=cpu_seconds,
                cpu_limit=self._limits.cpu_seconds,
                adopted=self.adopted,
            )
        )
        await self._clear_away()
        self.finish(end)
        return end

    def finish(self, end: RankEnd) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self.record.end = end
        spawn.clear(self.work)
        if self.record.group is not None:
            self.record.group.remove()
        self.ended.set()

    def abandon(self) -> None:
        """Give up the descriptor: the agent goes, the task stays."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._popen is not None:
            self._popen.returncode = 0  # else its destructor warns of a child still running

    def read_report(self) -> bool:
        """Pick up what the task wrote to its report file, if that is whole and new. Returns whether it was."""
        content, seen = _read_untrusted(self.work / spawn.REPORT, self._report_seen)
        if content is None:
            return False
        try:
            report = json.loads(content)
        except (ValueError, RecursionError):
            return False  # perhaps not written to its end yet
        self._report_seen = seen
        if not isinstance(report, dict) or report == self.record.report:
            return False
        self.record.report = report
        return True

    def state(self) -> RankState:
        return RankState(
            rank=self.record.rank,
            node=self.record.node,
            pid=self.record.pid,
            started_at=self.record.started_at,
            adopted=self.adopted,
            report=self.record.report,
            log_bytes=self.log.size(),
            end=self.record.end,
        )

    def _signal_group(self, number: int) -> None:
        # While the leader is there, if only as a zombie that we or init have yet to collect, its number stays its own.
        if self.live and self.record.pid is not None and self._leader_is_there():
            processes.kill_group(self.record.pid, number)

    def _leader_is_there(self) -> bool:
        assert self.record.pid is not None
        found = processes.read_stat(self.record.pid)
        return found is not None and found.start_ticks == self.record.start_ticks

    async def _collect_status(self) -> tuple[int | None, float]:
        """The wait status and the CPU seconds used, as far as they can be had."""
        assert self.record.pid is not None and self._pidfd is not None
        self._signal_group(signal.SIGKILL)  # while the leader is not collected, the group's number is safe to use
        if self._popen is not None:
            _, status, usage = os.wait4(self.record.pid, 0)  # noqa: ASYNC222 - it has ended, this does not wait
            self._popen.returncode = os.waitstatus_to_exitcode(status)
            return status, usage.ru_utime + usage.ru_stime
        for _ in range(_EXIT_STATUS_TRIES):
            if (found := processes.exit_status(self.record.pid, self._pidfd)) is not None:
                return found, 0.0
            await asyncio.sleep(_PAUSE_SECONDS)
        return None, 0.0

    async def _sweep(self) -> None:
        """Until nothing of it is left; a process that cannot die (stuck in the kernel) is left to the next sweep."""
        try:
            async with asyncio.timeout(_SWEEP_SECONDS):
                while self._kill_leftovers():
                    await asyncio.sleep(_PAUSE_SECONDS)
        except TimeoutError:
            self._log.warning("leftovers_do_not_die", seconds=_SWEEP_SECONDS)

    def _kill_leftovers(self) -> bool:
        """Whether there were any. Without a control group they are known by the mark in their environment."""
        if self.record.group is not None:
            left = bool(self.record.group.pids())
            self.record.group.kill()
            return left
        left = False
        for process in processes.marked_processes(self._engine):
            if process.attempt == self.record.attempt and process.rank == self.record.rank:
                left = True
                processes.kill_process(process.stat)
        return left

    async def _clear_away(self) -> None:
        if self.record.group is None:
            return
        for _ in range(_EXIT_STATUS_TRIES):  # the kernel lets go of a group a little after its last process
            if self.record.group.remove():
                return
            await asyncio.sleep(_PAUSE_SECONDS)


def _read_untrusted(path: Path, seen: tuple[int, int] | None) -> tuple[bytes | None, tuple[int, int]]:
    """A regular file of bounded size that differs from the one `seen` (mtime in ns, size). The folder is the task's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None, (0, 0)
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        now = (info.st_mtime_ns, info.st_size)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _REPORT_MAX or now == seen:
            return None, now
        return file.read(_REPORT_MAX), now
