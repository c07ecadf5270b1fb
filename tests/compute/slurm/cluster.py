"""A Slurm of our own: munged, slurmctld and one slurmd for each of its nodes, all on this machine and all our children.

Nothing of it is looked up or left behind outside its folder. Time-outs are those of a busy machine: a node is only down
when a test says so.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.waiting import eventually_sync

PROGRAMS: Final = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "squeue", "srun", "setpriv")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_SECONDS: Final = 60.0
_PARTITION: Final = "main"

_CONF: Final = """\
ClusterName=skerry
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
{gres_types}
ReturnToService=2
MpiDefault=none
SlurmctldTimeout=60
SlurmdTimeout=60
MessageTimeout=30
KillWait=2
MinJobAge=300
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
MailProg=/bin/true
NodeName=local-[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports}] CPUs=64 RealMemory=1000000 {gres}
PartitionName={partition} Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no cluster here; empty: there can."""
    if os.geteuid() != 0:
        return "a private Slurm is started as root"
    gone = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    return f"no {', '.join(gone)}: scripts/slurm-packages.sh installs Slurm" if gone else ""


def is_required(environ: Mapping[str, str]) -> bool:
    """Whether a machine without Slurm fails its tests instead of skipping them: CI, and who asks for it."""
    return any(environ.get(name, "").lower() not in ("", "0", "false") for name in ("CI", "SKERRY_REQUIRE_SLURM"))


class Cluster:
    """`nodes` virtual nodes, `local-1` and so on, with `gpus` devices each where device files can be made."""

    partition: Final = _PARTITION

    def __init__(self, root: Path, nodes: int = 4, gpus: int = 2) -> None:
        self.root = root
        self.names = tuple(f"local-{number}" for number in range(1, nodes + 1))
        self.conf = root / "slurm.conf"
        self.gpus = gpus if self._make_devices(gpus) else 0
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> "Cluster":
        for folder in ("state", "spool", "munge"):
            (self.root / folder).mkdir(mode=0o700, exist_ok=True)
        self._write_conf()
        key = self.root / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        self._daemon("munged", *self._munge_arguments())
        eventually_sync((self.root / "munge.sock").exists, _START_SECONDS)
        self.start_controller()
        for name in self.names:
            self.start_node(name)
        eventually_sync(lambda: self.idle() == set(self.names), _START_SECONDS)
        return self

    def start_controller(self) -> None:
        self.spawn_controller()
        self.wait_for_controller()

    def spawn_controller(self) -> None:
        self._daemon("slurmctld", "slurmctld", "-D")

    def wait_for_controller(self) -> None:
        eventually_sync(lambda: self.command("scontrol", "ping").startswith("Slurmctld(primary) at"), _START_SECONDS)
        eventually_sync(lambda: " is UP" in self.command("scontrol", "ping"), _START_SECONDS)

    def start_node(self, name: str) -> None:
        self._daemon(f"slurmd-{name}", "slurmd", "-D", "-N", name)

    def kill(self, daemon: str) -> None:
        """`slurmctld` or `slurmd-NODE`: as a crash would."""
        process = self._daemons.pop(daemon)
        process.kill()
        process.wait()

    def idle(self) -> set[str]:
        return set(self.command("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())

    def command(self, *argv: str) -> str:
        """Its standard output, whatever its exit status; empty where it does not answer in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            environment = {"PATH": _PATH, "SLURM_CONF": str(self.conf)}
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=False)
            return done.stdout
        return ""

    def stop(self) -> None:
        """End all jobs and all daemons; fails where a step of theirs is left."""
        if "slurmctld" in self._daemons:
            self.command("scancel", "--user=root")
            with contextlib.suppress(AssertionError):
                eventually_sync(lambda: not self.command("squeue", "-h").strip(), 20)
        for process in reversed(self._daemons.values()):
            process.terminate()
        for process in self._daemons.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._daemons.clear()
        left = self._steps()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"steps are left behind: {left}"

    def _daemon(self, name: str, *argv: str) -> None:
        """To be called by a thread that stays: it is told to end when that does, so that a killed test leaves none."""
        environment = {"PATH": _PATH, "SLURM_CONF": str(self.conf)}
        with open(self.root / f"{name}.out", "ab") as out:
            self._daemons[name] = subprocess.Popen(
                ("setpriv", "--pdeathsig", "TERM", *argv),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _munge_arguments(self) -> list[str]:
        files = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid", "log-file": "munged.log"}
        options = [f"--{option}={self.root / name}" for option, name in files.items()]
        return ["munged", "--foreground", "--force", f"--seed-file={self.root}/munge/seed", *options]

    def _make_devices(self, gpus: int) -> bool:
        try:
            for number in range(gpus):
                os.mknod(self.root / f"nvidia{number}", 0o20600, os.makedev(195, number))
        except PermissionError:
            return False
        return gpus > 0

    def _write_conf(self) -> None:
        ports = _free_ports(len(self.names) + 1)
        self.conf.write_text(
            _CONF.format(
                host=socket.gethostname().partition(".")[0],
                user="root",
                root=self.root,
                controller_port=ports[0],
                nodes=len(self.names),
                ports=",".join(map(str, ports[1:])),
                gres_types="GresTypes=gpu" if self.gpus else "",
                gres=f"Gres=gpu:{self.gpus}" if self.gpus else "",
                partition=self.partition,
            )
        )
        if self.gpus:
            gres = f"NodeName=local-[1-{len(self.names)}] Name=gpu File={self.root}/nvidia[0-{self.gpus - 1}]\n"
            (self.root / "gres.conf").write_text(gres)

    def _steps(self) -> list[int]:
        """Processes of ours that the daemons started and that outlived them."""
        mark = f"SLURM_CONF={self.conf}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
