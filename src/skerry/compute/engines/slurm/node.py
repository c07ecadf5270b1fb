"""On a node: run the tasks that one attempt has there. A Slurm job of ours starts this once on each of its nodes.

It does what the embedded engine's agent does for a gang, with the same parts, and speaks with the engine and with the
other nodes through the attempt's folder. It ends with code 0 once everything it knows is written there; whatever else
its end was, the job's script calls it again with `--sweep`.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from skerry.compute.engines.base import EndCause, RankEnd
from skerry.compute.engines.embedded import ending, processes, rules, spawn
from skerry.compute.engines.embedded.cgroups import Cgroups
from skerry.compute.engines.embedded.gang import Gang
from skerry.compute.engines.embedded.records import GangRecord, RankRecord
from skerry.compute.engines.embedded.task import Task
from skerry.compute.engines.slurm.layout import AttemptFolder, Order, Stop
from skerry.compute.model import Outcome
from skerry.fleet.cgroups import cgroup_folders
from skerry.kernel.clock import SystemClock

_TICK_SECONDS: Final = 0.05
_ROTATE_SECONDS: Final = 0.5
_ALIVE_SECONDS: Final = 1.0
_SLURM_GRACE_SECONDS: Final = 1.0
"""Slurm's own SIGTERM is followed by SIGKILL after KillWait (30 s by default, 2 in tests)."""
_SIGNALS_APART_SECONDS: Final = 0.3
_PROCESSES: Final = 8192
_SWEEPS: Final = 100


class _RunnerLog:
    """Lines in the job's own output, `runner.log` in the attempt's folder."""

    def warning(self, event: str, **words: object) -> None:
        sys.stderr.write(f"{event} {words}\n")


class Runner:
    """The tasks of one attempt on one node."""

    def __init__(self, folder: AttemptFolder, order: Order, node: str, gpus: tuple[str, ...] | None) -> None:
        """`gpus`: what Slurm has given to the job here; None: it gives none."""
        self._folder = folder
        self._order = order
        self._node = node
        self._gpus = gpus
        self._clock = SystemClock()
        spec = order.gang
        self._cgroups = Cgroups.none()
        record = GangRecord(attempt=spec.attempt, created_at=self._clock.now(), grace_seconds=spec.grace_seconds)
        self._gang = Gang(record)
        self._devices: dict[int, tuple[int, ...]] = {}
        for rank, (where, devices) in enumerate(rules.ranks(spec)):
            if where == node:
                self._gang.tasks[rank] = self._task(rank)
                self._devices[rank] = devices
        self._alone = {placement.node for placement in spec.placements} == {node}
        self._signals_sent: set[str] = set()
        self._obeyed: Stop | None = None
        self._collecting: set[asyncio.Task[None]] = set()
        self._told = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._told.set)
        self._folder.touch_alive(self._node)
        if await self._may_start():
            self._start()
        await self._follow()
        for job in self._collecting:
            await job
        self._cgroups.close()

    # Starting

    def _task(self, rank: int) -> Task:
        spec = self._order.gang
        record = RankRecord(attempt=spec.attempt, rank=rank, node=self._node, boot=processes.boot_id())
        return Task(
            record,
            limits=spec.limits,
            work=Path(self._order.work) / f"{spec.attempt}-{rank}",
            log=self._folder.log(rank),
            engine=self._order.mark,
            clock=self._clock,
            log_to=_RunnerLog(),
        )

    async def _may_start(self) -> bool:
        """All nodes of the gang are there and able to start it: or none of its tasks is started."""
        if self._folder.stop() is not None:
            self._skip("it was told to end before it was started", self._asked())
            return False
        problem = "" if self._alone or self._command_is_there() else "no such command"
        nodes = {placement.node for placement in self._order.gang.placements}
        if self._alone:
            return True
        self._folder.say_ready(self._node, problem)
        last_alive = 0.0
        while (ready := self._folder.ready()).keys() != nodes and not any(ready.values()):
            if self._folder.stop() is not None or self._told.is_set() or self._folder.peer_ended():
                self._skip("it was told to end before it was started", self._asked())
                return False
            last_alive = self._sign_of_life(last_alive)
            await asyncio.sleep(_TICK_SECONDS)
        if problem:
            self._not_started(FileNotFoundError(2, problem), next(iter(self._gang.tasks)))
            return False
        if any(ready.values()):
            self._skip("another rank could not be started", EndCause.PEER_ENDED)
            return False
        return True

    def _command_is_there(self) -> bool:
        command = self._order.gang.command[0]
        if "/" in command:
            return Path(command).exists()
        return shutil.which(command, path=self._order.gang.env.get("PATH", spawn.PATH)) is not None

    def _start(self) -> None:
        if self._order.cgroups:
            self._cgroups = Cgroups.detect(own_groups(), group_name(self._order, self._node))
        make_work(Path(self._order.work))
        for task in self._gang.tasks.values():
            self._folder.save_rank(task.record)
        for rank, task in self._gang.tasks.items():
            try:
                self._start_rank(task)
            except OSError as error:
                self._not_started(error, rank)
                return

    def _start_rank(self, task: Task) -> None:
        order, rank = self._order, task.record.rank
        task.record.group = self._cgroups.create(
            f"{order.gang.attempt}-{rank}",
            memory_bytes=order.gang.limits.memory_bytes,
            processes=order.gang.limits.processes or _PROCESSES,
        )
        log = task.log.create((order.run_as.uid, order.run_as.gid) if order.run_as is not None else None)
        try:
            launch = spawn.Launch(
                gang=order.gang,
                rank=rank,
                work=task.work,
                log=log,
                devices=None if order.shared.get(self._node, True) else self._given(rank),
                engine=order.mark,
                run_as=order.run_as,
                group=task.record.group,
                lifeline=None,
                addresses=order.addresses,
            )
            spawn.prepare(launch)
            task.start(launch)
        finally:
            os.close(log)
        self._folder.save_rank(task.record)
        task.watch(lambda: self._begin_to_collect(task))

    def _given(self, rank: int) -> tuple[int, ...]:
        """The rank's share of what Slurm has given to the job here, else what it was placed on."""
        if self._gpus is None or not all(gpu.isdigit() for gpu in self._gpus):
            return self._devices[rank]
        begin = sum(len(devices) for other, devices in self._devices.items() if other < rank)
        return tuple(int(gpu) for gpu in self._gpus[begin : begin + len(self._devices[rank])])

    def _not_started(self, error: OSError, rank: int) -> None:
        task = self._gang.tasks[rank]
        task.finish(ending.never_started(self._clock.now(), error, self._order.gang.command[0]))
        self._folder.save_rank(task.record)
        self._folder.say_peer_ended()
        for other in self._gang.live:
            if other.record.pid is None:
                self._finish(other, EndCause.PEER_ENDED, "another rank could not be started")
        self._gang.begin_to_end(EndCause.PEER_ENDED, self._order.gang.grace_seconds)

    def _skip(self, why: str, cause: EndCause) -> None:
        for task in self._gang.live:
            self._finish(task, cause, why)

    def _finish(self, task: Task, cause: EndCause, why: str) -> None:
        outcome = Outcome.LOST if cause is EndCause.ENGINE_STOPPED else Outcome.CANCELLED
        task.finish(RankEnd(cause, outcome, self._clock.now(), message=why))
        self._folder.save_rank(task.record)

    # Following

    async def _follow(self) -> None:
        """Until all tasks have ended and have been collected."""
        rotated = last_alive = 0.0
        loop = asyncio.get_running_loop()
        while self._gang.live:
            rotate = loop.time() - rotated >= _ROTATE_SECONDS
            self._obey()
            self._look(again=rotate)
            rotated = loop.time() if rotate else rotated
            last_alive = self._sign_of_life(last_alive)
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await asyncio.gather(*(task.ended.wait() for task in self._gang.live))
        self._gang.stop_escalation()

    def _obey(self) -> None:
        for name, number in self._folder.signals().items():
            if name not in self._signals_sent:
                self._signals_sent.add(name)
                for task in self._gang.live:
                    task.send(number)
        if (stop := self._folder.stop()) is not None:
            if stop != self._obeyed:
                self._obeyed = stop
                self._gang.begin_to_end(stop.cause, stop.grace_seconds)
        elif self._gang.ending:
            return
        elif self._folder.peer_ended():
            self._gang.begin_to_end(EndCause.PEER_ENDED, self._order.gang.grace_seconds)
        elif self._told.is_set():
            self._gang.begin_to_end(EndCause.ENGINE_STOPPED, _SLURM_GRACE_SECONDS)

    def _asked(self) -> EndCause:
        stop = self._folder.stop()
        if stop is not None:
            return stop.cause
        return EndCause.PEER_ENDED if self._folder.peer_ended() else EndCause.ENGINE_STOPPED

    def _look(self, *, again: bool) -> None:
        for task in self._gang.live:
            if (again or task.record.report is None) and task.read_report():
                self._folder.save_rank(task.record)
            if again:
                with suppress(OSError):
                    task.log.rotate()

    def _sign_of_life(self, last: float) -> float:
        now = asyncio.get_running_loop().time()
        if now - last < _ALIVE_SECONDS:
            return last
        self._folder.touch_alive(self._node)
        return now

    def _begin_to_collect(self, task: Task) -> None:
        job = asyncio.get_running_loop().create_task(self._collect(task))
        self._collecting.add(job)

    async def _collect(self, task: Task) -> None:
        if await self._is_slurms_doing(task):
            task.asked = task.asked or EndCause.ENGINE_STOPPED
        end = await task.collect()
        if end.outcome is not Outcome.SUCCEEDED:
            self._folder.say_peer_ended()
            if self._gang.live:
                self._gang.begin_to_end(EndCause.PEER_ENDED, self._order.gang.grace_seconds)
        self._folder.save_rank(task.record)

    async def _is_slurms_doing(self, task: Task) -> bool:
        """Slurm sends its SIGTERM to the tasks too; ours may come a moment after their end."""
        assert task.record.pid is not None
        found = os.waitid(os.P_PID, task.record.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it has ended
        if found is None or (found.si_code, found.si_status) == (os.CLD_EXITED, 0):
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(_SIGNALS_APART_SECONDS):
                await self._told.wait()
        return self._told.is_set()


def make_work(folder: Path) -> None:
    """Where tasks work. Whoever they run as passes through it and through what is made above it, whatever our umask;
    what is there already stays as it is.
    """
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            with suppress(FileExistsError):  # another attempt's runner was faster
                path.mkdir(mode=0o711)
            path.chmod(0o711)


def own_groups() -> dict[str, tuple[Path, Path]]:
    """This process's control groups by controller, as `Cgroups.detect` wants them."""
    return {controller: (found.mount, found.own) for controller, found in cgroup_folders().items()}


def group_name(order: Order, node: str) -> str:
    return f"{order.mark}-{order.gang.attempt}-{node}"


def sweep(folder: AttemptFolder, node: str) -> None:
    """The runner has died: end what it started here, and say that nobody is here any more."""
    order = folder.order()
    if order is not None:
        here = {rank for rank, (where, _) in enumerate(rules.ranks(order.gang)) if where == node}
        for _ in range(_SWEEPS):
            if not end_marked(order.mark, str(folder.attempt), here):
                break
        groups = Cgroups.detect(own_groups(), group_name(order, node)) if order.cgroups else Cgroups.none()
        for group in groups.existing().values():
            group.kill()
            group.remove()
        groups.close()
        folder.say_peer_ended()
        for rank in here:
            spawn.clear(Path(order.work) / f"{folder.attempt}-{rank}")
    folder.leave(node)


def end_marked(mark: str, attempt: str, ranks: set[int]) -> bool:
    """Kill what carries these marks. Whether anything did."""
    found = [one for one in processes.marked_processes(mark) if one.attempt == attempt and one.rank in ranks]
    for one in found:
        processes.kill_process(one.stat)
    return bool(found)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="skerry.compute.engines.slurm.node")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sweep", action="store_true")
    given = parser.parse_args(arguments)
    folder, node = AttemptFolder(given.folder), os.environ["SLURMD_NODENAME"]
    job = int(os.environ["SLURM_JOB_ID"])
    if given.sweep:
        if folder.claimed_by() == job:
            sweep(folder, node)
        return 0
    order = folder.order()
    if order is None or not folder.claim(job) or folder.has_started(node):
        return 0  # it has ended, another job has it, or Slurm has requeued what was started before
    folder = AttemptFolder(given.folder, order.log_bytes, order.log_parts)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    asyncio.run(Runner(folder, order, node, tuple(gpus.split(",")) if gpus else None).run())
    folder.leave(node)
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
