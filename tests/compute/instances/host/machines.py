"""Real instances for tests: the host program as a process of its own, and the ssh client against it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from skerry.compute.instances.host.spec import InstanceReport
from tests.waiting import eventually_sync

PROGRAMS = ("sshd", "ssh", "ssh-keygen", "ip", "nsenter", "runc", "setpriv")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PORTS = (23100, 23899)


def missing() -> str | None:
    """Why instances cannot be tried here."""
    if os.geteuid() != 0:
        return "not root"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    return f"not installed: {', '.join(lacking)} (scripts/instance-packages.sh)" if lacking else None


class Keys:
    """Key pairs, made once for all tests: of a user, of a stranger, of a host, of a cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("user", "stranger", "host", "cluster"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True
            )

    def private(self, name: str) -> str:
        return (self.folder / name).read_text()

    def public(self, name: str) -> str:
        return (self.folder / f"{name}.pub").read_text().strip()


class Machine:
    """One instance: `start` it, `ssh` into it, `stop` it."""

    def __init__(self, folder: Path, keys: Keys, driver: str, **spec: Any) -> None:
        self.id = spec.pop("id", None) or f"i-{uuid4().hex[:10]}"
        self.keys = keys
        # A whole node takes no other instance beside it; its tests each have a node of their own, as it were.
        self.state = folder / (f"state-{self.id}" if driver == "node" else "state")
        self.folder = folder / self.id
        (self.folder / "files").mkdir(parents=True, exist_ok=True)
        options = {
            "allowed": [driver],
            "ports": PORTS,
            "state": str(self.state),
            "scratch_bytes": 64 << 20,
            "grace_seconds": 0.5,
        } | spec.pop("options", {})
        self.spec = {
            "id": self.id,
            "hostname": "alpha",
            "authorized_keys": [keys.public("user")],
            "host_key": keys.private("host"),
            "partition": "p-one",
            "driver": driver,
            "trusted": True,
            "options": options,
        } | spec
        self.report_path = self.folder / "report.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.more_env: dict[str, str] = {}
        self.target = ""

    def begin(self) -> None:
        """Start the program without waiting for it."""
        (self.folder / "files/instance.json").write_text(json.dumps(self.spec))
        self.report_path.unlink(missing_ok=True)
        env = {"PATH": PATH, "SKERRY_FILES": str(self.folder / "files"), "SKERRY_REPORT": str(self.report_path)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "skerry.compute.instances.host"],
                env=env | self.more_env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> "Machine":
        self.begin()
        eventually_sync(lambda: self.report_path.exists() or self.ended, 60)
        assert not self.ended, self.log
        return self

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def report(self) -> InstanceReport:
        return msgspec.json.decode(self.report_path.read_bytes(), type=InstanceReport)

    def ssh_command(self, *options: str, key: str = "user", host_key: str | None = None) -> list[str]:
        report = self.report
        known = self.folder / "known_hosts"
        known.write_text(f"[{report.ssh.host}]:{report.ssh.port} {host_key or report.ssh.host_key}\n")
        settings = {
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "20",
            "LogLevel": "ERROR",
        }
        flags = [flag for name, value in settings.items() for flag in ("-o", f"{name}={value}")]
        identity = ["-i", str(self.keys.folder / key)]
        return [
            "ssh", "-F", "none", *flags, *identity, *options, "-p", str(report.ssh.port),
            f"{report.ssh.user}@{report.ssh.host}",
        ]  # fmt: skip

    def ssh(self, command: str, *options: str, key: str = "user", host_key: str | None = None) -> "Done":
        done = subprocess.run(
            [*self.ssh_command(*options, key=key, host_key=host_key), command],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": PATH, "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def out(self, command: str) -> str:
        """Over one connection for all such calls, since each costs a handshake."""
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-S", str(self.folder / "control")]
        done = self.ssh(command, *shared)
        assert done.code == 0, done
        return done.out.strip()

    def stop(self) -> int:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def leftovers(self) -> Mapping[str, list[str]]:
        """What of it is still on the node, by kind; empty where nothing is."""
        found = {
            "folders": [str(path) for path in [self.state / "up" / self.id] if path.exists()],
            "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if self.id in line],
            "groups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/skerry-instances/{self.id}")],
            "processes": processes_with(self.id),
            "members": [] if self.driver == "node" else members_named(self.id),
        }
        return {kind: what for kind, what in found.items() if what}

    @property
    def driver(self) -> str:
        return str(self.spec["driver"])


class Done(msgspec.Struct):
    code: int
    out: str
    err: str


def processes_with(text: str) -> list[str]:
    """Command lines and environments that name it, but for the test's own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if text.encode() in words:
                    found.append(words[:200].decode(errors="replace"))
    return found


def members_named(text: str) -> list[str]:
    """Interfaces of any partition that belong to it."""
    names = [path.name for path in Path("/run/netns").glob("skp-*")] if Path("/run/netns").is_dir() else []
    shown = [subprocess.run(["ip", "-n", name, "link"], capture_output=True, text=True).stdout for name in names]
    return [line for lines in shown for line in lines.splitlines() if text in line]
