"""What runs here: written down by the launcher, read by `skerry status` and `skerry down`."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from skerry.runtime.settings import STATE_LINK, Settings
from skerry.server import credentials

STATUS_FILE = "status.json"
DOWN_SECONDS = 60.0


def write_status(state: Path, url: str, version: str, processes: Sequence[dict[str, object]]) -> None:
    """Replace the file in one step."""
    path = state / "run" / STATUS_FILE
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"url": url, "version": version, "processes": list(processes)}))
    temporary.rename(path)


def read_status(settings: Settings) -> dict[str, Any] | None:
    """`{url, version, ready, processes, reasons}`; None where nothing runs."""
    if launcher_pid(settings) is None:
        return None
    link = settings.home / STATE_LINK
    if link.exists():
        # The first start makes the link after these settings were read.
        settings = replace(settings, state=link.resolve())
    try:
        status: dict[str, Any] = json.loads((settings.run / STATUS_FILE).read_text())
    except (OSError, ValueError):
        status = {"url": "", "version": "", "processes": []}
    status["processes"] += agent_tasks(settings.state)
    ready, reasons = _readiness(settings, status["url"])
    return {"url": status["url"], "version": status["version"], "ready": ready, "processes": status["processes"]} | (
        {"reasons": reasons} if reasons else {}
    )


def agent_tasks(state: Path) -> list[dict[str, Any]]:
    """The engine's tasks on this machine, as its agent wrote them down; `resource` is the workload."""
    rows = []
    for folder in sorted((state / "run" / "agent").glob("att_*-*")):
        try:
            task = json.loads((folder / "state.json").read_text())
            gang = json.loads((folder.parent / task["attempt"] / "gang.json").read_text())
        except (OSError, ValueError, KeyError):
            continue
        pid = task.get("pid")
        if pid and Path(f"/proc/{pid}").exists():
            status = "running" if task.get("report") else "starting"
            rows.append({"role": "replica", "pid": pid, "status": status, "resource": gang.get("workload")})
    return rows


def launcher_pid(settings: Settings) -> int | None:
    """The process that holds SKERRY_HOME; None where none does."""
    try:
        descriptor = os.open(settings.home / "launcher.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None


def stop(settings: Settings) -> bool:
    """End the running cloud and wait until it is gone. False where none runs. Raises TimeoutError."""
    pid = launcher_pid(settings)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while launcher_pid(settings) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not end; see {settings.logs}")
        time.sleep(0.05)
    return True


def _readiness(settings: Settings, url: str) -> tuple[bool, dict[str, str]]:
    """Whether `/readyz` says 200, and its reasons by part."""
    if not url:
        return False, {}
    known = credentials.read(settings.home)
    headers = {"authorization": f"Bearer {known.operator_key}"} if known else {}
    try:
        answer = httpx.get(f"{url}/readyz", headers=headers, timeout=5.0, trust_env=False)
        reasons = answer.json().get("reasons", {})
    except (httpx.HTTPError, ValueError):
        return False, {"gateway": "it does not answer"}
    return answer.status_code == 200, {str(part): str(why) for part, why in reasons.items() if why}
