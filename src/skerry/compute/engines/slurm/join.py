"""A node joins: `python -I -m skerry.compute.engines.slurm.join`, on the node, as root; `skerry fleet join` starts it.

It prepares the node (user, folders), sees whether tasks can run there as they must, writes down what the node can, and
prints the lines for Slurm's files. Done twice, it changes nothing.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from skerry.compute.engines.embedded.users import NoSuchUser, can_reach, ensure_user
from skerry.compute.engines.slurm import probe
from skerry.fleet.discover import discover
from skerry.fleet.model import Machine

WORK: Final = Path("/var/lib/skerry/slurm")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SPARE_BYTES: Final = 1 << 30
"""Left to the system."""
_DYNAMIC: Final = (22, 5)
"""From this version on `slurmd -Z` registers a node that slurm.conf does not name."""
_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Check:
    """`message`: what was found; where it is not `ok`, what to do."""

    name: str
    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class Joined:
    """`lines`: what to put where, once all checks are well."""

    node: str
    checks: tuple[Check, ...]
    lines: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def node_line(name: str, machine: Machine) -> str:
    """Of slurm.conf."""
    memory = max(1, (machine.memory_bytes - _SPARE_BYTES) >> 20)
    gpus = f" Gres=gpu:{_kind(machine)}:{len(machine.gpus)}" if machine.gpus else ""
    return f"NodeName={name} CPUs={machine.cores} RealMemory={memory}{gpus} State=UNKNOWN"


def gres_line(name: str, machine: Machine) -> str:
    """Of gres.conf. A bare count without `File=` would be dropped."""
    files = f"/dev/nvidia[0-{len(machine.gpus) - 1}]" if len(machine.gpus) > 1 else "/dev/nvidia0"
    return f"NodeName={name} Name=gpu Type={_kind(machine)} File={files}"


def dynamic_line(name: str, machine: Machine) -> str:
    """For a slurmd that registers itself; needs MaxNodeCount in slurm.conf."""
    words = node_line(name, machine).split()[1:-1]
    return f"slurmd -Z --conf '{' '.join(words)}' -N {name}"


def slurm_version(text: str) -> tuple[int, int] | None:
    """Of `slurmd -V`, such as `slurm-wlm 22.05.8`."""
    number = text.split()[-1].split(".") if text.split() else []
    return (int(number[0]), int(number[1])) if len(number) > 1 and number[0].isdigit() and number[1].isdigit() else None


def join(name: str, shared: Path | None, work: Path, munge_socket: str = "") -> Joined:
    slurmd, version = _slurmd()
    checks = [_root(), slurmd, _munge(munge_socket), *_folders(shared, work)]
    if not all(check.ok for check in checks):
        return Joined(name, tuple(checks), {})
    if shared is not None:
        probe.write(shared, probe.look(name))
    machine = discover()
    lines = {"slurm.conf": node_line(name, machine)}
    if machine.gpus:
        lines["gres.conf"] = gres_line(name, machine)
    if version is not None and version >= _DYNAMIC:
        lines["dynamic"] = dynamic_line(name, machine)
    return Joined(name, tuple(checks), lines)


def _root() -> Check:
    root = os.geteuid() == 0
    return Check("root", root, "it is" if root else "start this as root: it makes a user and folders")


def _slurmd() -> tuple[Check, tuple[int, int] | None]:
    text = _output("slurmd", "-V")
    version = slurm_version(text or "")
    if version is None:
        return Check("slurmd", False, "it is not installed: install slurmd (Debian: slurmd, munge)"), None
    return Check("slurmd", True, (text or "").strip()), version


def _munge(address: str) -> Check:
    """A credential of this host, made and read again. That the key is the controller's, `slurmd` will tell."""
    options = [f"--socket={address}"] if address else []
    made = _output("munge", "--no-input", *options)
    if made is None:
        return Check("munge", False, "munged does not answer: install munge, copy the controller's key, start it")
    if _output("unmunge", *options, given=made) is None:
        return Check("munge", False, "it does not read its own credential: see the clock and /etc/munge/munge.key")
    return Check("munge", True, "credentials are made and read")


def _folders(shared: Path | None, work: Path) -> Sequence[Check]:
    found = []
    if shared is not None:
        there = os.access(shared, os.W_OK)
        words = str(shared) if there else f"{shared} is not here or cannot be written: mount the shared folder"
        found.append(Check("shared", there, words))
    try:
        for path in (*reversed(work.parents), work):
            if not path.exists():
                path.mkdir(mode=0o711)
                path.chmod(0o711)  # whatever the umask
        passes = os.geteuid() != 0 or can_reach(ensure_user(), work)
        words = (
            str(work) if passes else f"{work} cannot be entered by the user that tasks run as: chmod o+x its parents"
        )
        found.append(Check("work", passes, words))
    except (NoSuchUser, OSError) as error:
        found.append(Check("work", False, str(error)))
    return found


def _kind(machine: Machine) -> str:
    """As Slurm takes it for a type: `h100`."""
    return re.sub(r"[^a-z0-9]+", "-", machine.accelerator_type.lower()).strip("-")


def _output(*command: str, given: str = "") -> str | None:
    """None where it is not there, fails, or does not answer."""
    try:
        done = subprocess.run(
            command, input=given, env={"PATH": _PATH}, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


_WHERE: Final = {
    "slurm.conf": "Into slurm.conf, on all nodes:",
    "gres.conf": "Into gres.conf:",
    "dynamic": "Or, where slurm.conf has MaxNodeCount, without naming it there:",
}


def in_words(joined: Joined) -> str:
    lines = [f"{'ok     ' if check.ok else 'missing'}  {check.name}: {check.message}" for check in joined.checks]
    for where, line in joined.lines.items():
        lines += ["", _WHERE[where], f"  {line}"]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="skerry fleet join")
    parser.add_argument("--shared", type=Path, default=os.environ.get("SKERRY_SLURM_SHARED") or None)
    parser.add_argument("--work", type=Path, default=Path(os.environ.get("SKERRY_SLURM_WORK") or WORK))
    parser.add_argument("--name", default=socket.gethostname().partition(".")[0])
    parser.add_argument("--munge-socket", default="")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    joined = join(given.name, given.shared, given.work, given.munge_socket)
    answer = {**asdict(joined), "ok": joined.ok}
    sys.stdout.write(json.dumps(answer) + "\n" if given.json else in_words(joined))
    return 0 if joined.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
