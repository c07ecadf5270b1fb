"""Starts host programs as the engine agent does, and asks them."""

import json
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from skerry.inference.engines.llamacpp.config import CONFIG_VARIABLE, KEY_FILE
from tests.waiting import eventually_sync

KEY = "a-replica-key"
ROOT = os.geteuid() == 0


@dataclass
class Host:
    process: subprocess.Popen
    report_file: Path
    log: Path
    lifeline: int

    @property
    def report(self) -> dict:
        return json.loads(self.report_file.read_text())

    def wait_ready(self, seconds: float = 60) -> "Host":
        eventually_sync(lambda: self.report_file.exists() or self.process.poll() is not None, seconds)
        assert self.process.poll() is None, self.log.read_text()
        return self

    def post(self, path: str, body: dict, key: str = KEY, **options) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(self.report["address"] + path, json=body, headers=headers, timeout=60, **options)

    def status(self, name: str) -> list[str]:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.lifeline)


def start_host(module: str, work: Path, config: dict, env: dict[str, str] | None = None, *, drop: bool = ROOT) -> Host:
    """`config` goes to it as the agent gives it; it runs as nobody, where we may say so."""
    (work / "files").mkdir(parents=True, mode=0o700)
    (work / "files" / KEY_FILE).write_text(KEY)
    nobody = pwd.getpwnam("nobody")
    env = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(work),
        "SKERRY_REPORT": str(work / "report.json"),
        "SKERRY_FILES": str(work / "files"),
        CONFIG_VARIABLE: json.dumps(config),
        **(env or {}),
    }
    if drop:
        for path in (work, work / "files", work / "files" / KEY_FILE):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        env["SKERRY_RUN_AS"] = f"{nobody.pw_uid}:{nobody.pw_gid}"
    read, write = os.pipe()
    env["SKERRY_LIFELINE_FD"] = str(read)
    log = work.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", module],
            env=env,
            cwd=work,
            stdout=output,
            stderr=output,
            pass_fds=(read,),
            start_new_session=True,
        )
    os.close(read)
    return Host(process, work / "report.json", log, write)
