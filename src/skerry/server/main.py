"""`python -m skerry.server ROLE`: what the command line starts.

`up` is the launcher of everything on one machine, `gateway`, `server` and `controller` alone are launchers of that role
where the parts run apart; with `SKERRY_LAUNCHER_PID` set, they are the role itself.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from skerry.fleet.model import MOST_VIRTUAL_NODES as MOST
from skerry.runtime.settings import BadSetting, Settings
from skerry.server.roles import PARENT, ROLES, VIRTUAL_NODES

APART = {"gateway": ("gateway", "shipper"), "server": ("server",), "controller": ("agent", "controller")}
PROGRESS_FD = "SKERRY_PROGRESS_FD"
READY_SECONDS = 120.0
WRONG_USE = 2


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 done, 1 it failed, 2 it cannot start like this."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        settings = _settings(given)
    except BadSetting as error:
        return _fail(str(error))
    if given.command in ROLES and os.environ.get(PARENT):
        from skerry.server.role import run_role  # noqa: PLC0415 - `status` and `down` should answer at once

        return run_role(given.command)
    if given.command == "bootstrap":
        from skerry.server.bootstrap import bootstrap  # noqa: PLC0415 - the launcher does not need the services

        return bootstrap(settings)
    if given.command in ("status", "down", "where", "reload"):
        return _ask(given.command, settings, given.json)
    if given.detach:
        return _detach(settings, given)
    return _launch(settings, given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry", description="Start and look after a cloud on this machine.")
    parser.add_argument("command", choices=["up", "down", "reload", "status", "where", "bootstrap", *ROLES])
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--engine", choices=["embedded", "slurm"])
    parser.add_argument("--virtual-nodes", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    return parser


def _settings(given: argparse.Namespace) -> Settings:
    settings = Settings.from_env()
    if given.host is not None:
        settings = replace(settings, host=given.host)
    if given.port is not None:
        settings = replace(settings, port=given.port)
    if given.tls_cert is not None:
        settings = replace(settings, tls_cert=given.tls_cert.expanduser().absolute())
    if given.tls_key is not None:
        settings = replace(settings, tls_key=given.tls_key.expanduser().absolute())
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise BadSetting("--tls-cert and --tls-key belong together: give both, or neither")
    if not 0 < settings.port < 65536:
        raise BadSetting(f"--port {settings.port} is not a port: choose one from 1 to 65535")
    settings = replace(settings, compute_engine=given.engine or settings.compute_engine)
    given.virtual_nodes = _virtual_nodes(given.virtual_nodes, settings.compute_engine)
    return settings


def _virtual_nodes(given: int | None, engine: str) -> int:
    """Raises BadSetting. What GPUs allow is known where they are looked for, in the bootstrap."""
    text = os.environ.get(VIRTUAL_NODES) or "1"
    if given is None and not text.isdigit():
        raise BadSetting(f"{VIRTUAL_NODES}={text} is no number of nodes")
    nodes = int(text) if given is None else given
    if not 1 <= nodes <= MOST:
        raise BadSetting(f"--virtual-nodes {nodes} cannot be: choose one from 1 to {MOST}")
    if engine == "slurm" and nodes > 1:
        raise BadSetting("--virtual-nodes divides this machine, and Slurm has nodes of its own: leave it out")
    return nodes


def _launch(settings: Settings, given: argparse.Namespace) -> int:
    from skerry.server import launcher  # noqa: PLC0415 - `status` and `down` should answer at once

    progress = os.environ.pop(PROGRESS_FD, None)
    say = launcher.say_json(int(progress)) if progress else launcher.say_plain
    options = launcher.Options(
        APART.get(given.command, launcher.ALL_ROLES), settings.compute_engine, given.virtual_nodes
    )
    try:
        launcher.Launcher(settings, options, say).run()
    except launcher.CannotStart as error:
        say("error", str(error))
        return WRONG_USE
    except KeyboardInterrupt:
        return 0
    return 0


def _detach(settings: Settings, given: argparse.Namespace) -> int:
    """Start the launcher in the background; return when the cloud is ready."""
    from skerry.server.readiness import wait_until_ready  # noqa: PLC0415 - rich and httpx are for this path alone

    log_file = settings.home / "launcher.log"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        log_file.touch()
    except OSError as error:
        return _fail(f"{settings.home} cannot be used: {error.strerror}")
    reader, writer = os.pipe()
    arguments = [given.command, "--host", settings.host, "--port", str(settings.port)]
    arguments += ["--engine", settings.compute_engine, "--virtual-nodes", str(given.virtual_nodes)]
    if settings.tls_cert is not None:
        arguments += ["--tls-cert", str(settings.tls_cert), "--tls-key", str(settings.tls_key)]
    with log_file.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "skerry.server", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            env={**os.environ, PROGRESS_FD: str(writer)},
            start_new_session=True,
        )
    os.close(writer)
    return wait_until_ready(settings, child, reader, READY_SECONDS)


def _ask(command: str, settings: Settings, as_json: bool) -> int:
    from skerry.server import status  # noqa: PLC0415 - httpx is for this path alone

    if command == "down":
        try:
            ended = status.stop(settings)
        except TimeoutError as error:
            return _fail(str(error), 1)
        _print({"stopped": ended} if as_json else "stopped" if ended else f"nothing runs in {settings.home}")
        return 0
    if command == "reload":
        try:
            ok, words = status.reload(settings)
        except TimeoutError as error:
            return _fail(str(error), 1)
        if not ok and not as_json:
            return _fail(words, 1)
        _print({"reloaded": ok, "text": words} if as_json else words)
        return 0 if ok else 1
    found = status.read_status(settings)
    if found is None:
        idle: dict[str, Any] = {"url": None, "version": None, "ready": False, "processes": []}
        _print(idle if as_json else f"nothing runs in {settings.home}")
        return 3
    _print(_where(settings, found["url"]) if command == "where" else found)
    return 0


def _where(settings: Settings, url: str) -> str:
    """What a new user wants to know next."""
    return (
        f"\nAPI      {url}/v1 (OpenAI-compatible), {url}/api/v1\nConsole  {url}/\nDocs     {url}/docs\n"
        f"Keys     {settings.home / 'credentials.toml'}\nNext     .venv/bin/skerry chat · usage · costs · status"
    )


def _print(what: object) -> None:
    print(what if isinstance(what, str) else json.dumps(what))  # noqa: T201


def _fail(message: str, code: int = WRONG_USE) -> int:
    print(f"skerry: {message}", file=sys.stderr)  # noqa: T201
    return code
