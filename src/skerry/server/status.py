"""What runs here: written down by the launcher, read by `skerry status` and `skerry down`."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from skerry.runtime.settings import STATE_LINK, Settings
from skerry.server import credentials
from skerry.server.certificate import probe_context

STATUS_FILE = "status.json"
DOWN_SECONDS = 60.0
RELOAD_SECONDS = 70.0
ROLES = {
    "skerry.compute.task": "job",
    "skerry.compute.instances.host": "instance",
    "skerry.compute.health.checks": "check",
    "skerry.artifacts.volumes.wipe": "volume",
}
"""What tasks of these programs are called; all others are replicas."""


def write_status(state: Path, status: Mapping[str, object]) -> None:
    """Replace the file in one step."""
    path = state / "run" / STATUS_FILE
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(status))
    temporary.rename(path)


def read_status(settings: Settings) -> dict[str, Any] | None:
    """`{url, version, ready, processes, reasons}`; None where nothing runs."""
    if launcher_pid(settings) is None:
        return None
    settings = _with_state(settings)
    status = _written(settings)
    status["processes"] += agent_tasks(settings.state)
    ready, reasons = _readiness(settings, status.get("local_url", ""), status.get("certificate"))
    return {"url": status["url"], "version": status["version"], "ready": ready, "processes": status["processes"]} | (
        {"reasons": reasons} if reasons else {}
    )


def _with_state(settings: Settings) -> Settings:
    """The first start makes the link after these settings were read."""
    link = settings.home / STATE_LINK
    return replace(settings, state=link.resolve()) if link.exists() else settings


def _written(settings: Settings) -> dict[str, Any]:
    try:
        status: dict[str, Any] = json.loads((settings.run / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return {"url": "", "version": "", "processes": []}
    return status


def reload(settings: Settings) -> tuple[bool, str]:
    """Tell the launcher to reload, and wait until it has: whether it could, and its words. Raises TimeoutError."""
    pid = launcher_pid(settings)
    if pid is None:
        return False, f"nothing runs in {settings.home}"
    settings = _with_state(settings)
    before = _written(settings).get("reload", {}).get("number", 0)
    try:
        os.kill(pid, signal.SIGHUP)
    except PermissionError:
        return False, f"process {pid} belongs to another user: run this as who started it"
    deadline = time.monotonic() + RELOAD_SECONDS
    while time.monotonic() < deadline:
        outcome = _written(settings).get("reload", {})
        if outcome.get("number", 0) > before:
            return bool(outcome["ok"]), str(outcome["words"])
        if launcher_pid(settings) is None:
            return False, f"the cloud in {settings.home} has ended meanwhile"
        time.sleep(0.05)
    raise TimeoutError(f"no new gateway within {RELOAD_SECONDS:.0f} s; see {settings.logs / 'gateway.log'}")


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
            rows.append({"role": _role(gang), "pid": pid, "status": status, "resource": gang.get("workload")})
    return rows


def _role(gang: Mapping[str, Any]) -> str:
    """What a task is, by the program of ours that it begins with; what has none is a replica."""
    command = gang.get("command") or ()
    return next((ROLES[word] for word in command if word in ROLES), "replica")


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
    deadline = time.monotonic() + DOWN_SECONDS + settings.drain_seconds
    while launcher_pid(settings) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not end; see {settings.logs}")
        time.sleep(0.05)
    return True


def _readiness(settings: Settings, url: str, cert: str | None) -> tuple[bool, dict[str, str]]:
    """Whether `/readyz` says 200, and its reasons by part."""
    if not url:
        return False, {}
    known = credentials.read(settings.home)
    headers = {"authorization": f"Bearer {known.operator_key}"} if known else {}
    try:
        verify = probe_context(Path(cert)) if cert else False
        answer = httpx.get(f"{url}/readyz", headers=headers, timeout=5.0, trust_env=False, verify=verify)
        reasons = answer.json().get("reasons", {})
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return False, {"gateway": f"it does not show the certificate in {cert}: `skerry reload`"}
        return False, {"gateway": "it does not answer"}
    except (httpx.HTTPError, ValueError):
        return False, {"gateway": "it does not answer"}
    except OSError as error:
        return False, {"gateway": f"{cert} cannot be read: {error}"}
    return answer.status_code == 200, {str(part): str(why) for part, why in reasons.items() if why}
