"""What the wrapper does, one after the other: reads its order, becomes ready, runs the command, ends as it ended."""

import contextlib
import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.compute.task import environment, mounts, running, sandbox, sources, users
from skerry.compute.task.calling import Api
from skerry.compute.task.checkpoints import Exchange
from skerry.compute.task.ends import CannotRun
from skerry.compute.task.order import ORDER_FILE, TOKEN_FILE, BadOrder, ProjectUser, SandboxWish, TaskOrder
from skerry.compute.task.relay import Relay
from skerry.compute.task.sandbox import Bind, Sandbox
from skerry.compute.task.token import Token

_LONGEST_TICK: Final = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where this task works. `source` is what the archive becomes, and the command's working folder."""

    work: Path
    files: Path
    source: Path
    temporary: Path

    @classmethod
    def here(cls) -> "Place":
        files = Path(os.environ["SKERRY_FILES"])
        work = files.parent
        return cls(work, files, work / "source", work / "tmp")


def main() -> int:
    """The exit code; does not return where a signal is to end us."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command runs, a signal simply ends us
    try:
        return running.end_like(_run())
    except CannotRun as error:
        sys.stderr.write(f"skerry: {error}\n")
        sys.stderr.flush()
        if error.code is None:
            os.kill(os.getpid(), signal.SIGKILL)  # which counts as lost: it is nobody's mistake but ours
        return error.code or 1


def _run() -> int:
    place = Place.here()
    order = _order(place)
    user = _user(order, place.work.parent)
    sandboxed = _sandboxed(order)
    for folder in (place.source, place.temporary):
        folder.mkdir(mode=0o700, exist_ok=True)
    place.temporary.chmod(0o1777)  # as `/tmp` is; nobody else gets as far as this
    if user is not None:
        users.give(place.work, user)
    binds = mounts.prepare(order.mounts, user)
    token = Token(place.files, user)
    api = Api(order.api_url, lambda: token.value)
    if order.source is not None:
        sources.bring(order.source, place.source, place.work.parent, api, user)
    # A process of its own: it sees a renewed token in the file only.
    own_api = Api(order.api_url, (place.files / TOKEN_FILE).read_text)
    exchange = Exchange.of(order.mounts, own_api, user)
    exchange.bring()
    exchange.begin()
    woken = running.listen()
    task = running.Running.begin(_prefix(order, place, binds, user, sandboxed=sandboxed))
    uid = user.uid if user is not None else None
    env = _environment(order, place, task.port, sandboxed=sandboxed)
    mounted = [(bind.target, bind.identity) for bind in binds if sandboxed and bind.identity is not None]
    task.tell(running.Start(order.command, str(place.source), uid, uid, mounted), env)
    status = _follow(task, woken, order, token, api)
    exchange.finish()
    return status


def _follow(task: running.Running, woken: int, order: TaskOrder, token: Token, api: Api) -> int:
    relay = Relay(task.relay, order.api_url)
    task.selector.register(task.relay, 1, relay.accept)
    _watch_lifeline(task, order.grace_seconds)
    renewing = threading.Lock()

    def renew() -> None:
        with renewing:
            if token.due_in <= 0:
                token.renew(api)

    def tick() -> float:
        if token.due_in <= 0 and not renewing.locked():
            threading.Thread(target=renew, daemon=True).start()
            return 1.0
        return min(_LONGEST_TICK, max(0.1, token.due_in))

    return task.follow(woken, lambda _: None, tick)


def _order(place: Place) -> TaskOrder:
    path = place.files / ORDER_FILE
    try:
        return TaskOrder.from_json(path.read_text())
    except (OSError, BadOrder) as error:
        raise CannotRun(f"{error}", None) from error
    finally:
        path.unlink(missing_ok=True)


def _user(order: TaskOrder, near: Path) -> ProjectUser | None:
    """None: it stays who the agent is, which is not root."""
    if os.geteuid() != 0:
        return None
    if order.user is None:
        raise CannotRun("it would run as root: its project has no user", None)
    users.ensure(order.user, near)
    return order.user


def _sandboxed(order: TaskOrder) -> bool:
    """Raises CannotRun where the task must not run without."""
    why_not = sandbox.probe() if order.sandbox is not SandboxWish.NONE else "it is not wanted"
    if not why_not:
        return True
    if order.sandbox is SandboxWish.REQUIRED:
        raise CannotRun(f"this node has no isolation for code of projects that are not trusted: {why_not}")
    mounts.without_sandbox(order.mounts)
    return False


def _prefix(
    order: TaskOrder, place: Place, binds: tuple[Bind, ...], user: ProjectUser | None, *, sandboxed: bool
) -> list[str]:
    program = sandbox.find()
    if not sandboxed or program is None:
        return []
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = Sandbox(
        work=str(place.work),
        temporary=str(place.temporary),
        mounts=binds,
        read_only=(*sandbox.python_folders(), *(path for path in order.shown if Path(path).is_dir())),
        etc=_etc(order, place, user),
        hidden=order.hidden,
        devices=None if devices is None else tuple(int(part) for part in devices.split(",") if part.isdigit()),
        network=order.network,
        privileged=os.geteuid() == 0,
    )
    return found.arguments(program)


def _etc(order: TaskOrder, place: Place, user: ProjectUser | None) -> tuple[Bind, ...]:
    """In a folder that the task does not see, but for these files."""
    folder = place.work / ".etc"
    folder.mkdir(mode=0o755, exist_ok=True)
    passwd, group = users.passwd(user, str(place.work))
    hosts = "127.0.0.1 localhost task\n::1 localhost\n"
    texts = {"passwd": passwd, "group": group} | ({} if order.network else {"hosts": hosts, "hostname": "task\n"})
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    own = tuple(Bind(str(folder / name), f"/etc/{name}", read_only=True) for name in texts)
    return own if not order.network else (*own, Bind("/etc/hosts", "/etc/hosts", read_only=True))


def _environment(order: TaskOrder, place: Place, port: int, *, sandboxed: bool) -> dict[str, str]:
    fixed = {"HOME": str(place.work), "TMPDIR": "/tmp" if sandboxed else str(place.temporary)}  # noqa: S108
    fixed["USER"] = fixed["LOGNAME"] = order.user.name if order.user is not None else "task"
    fixed["SKERRY_API_URL"] = f"http://127.0.0.1:{port}"
    fixed["SKERRY_SANDBOX"] = "bubblewrap" if sandboxed else "none"
    if (folder := mounts.checkpoint_folder(order.mounts, sandboxed=sandboxed)) is not None:
        fixed["SKERRY_CHECKPOINT_DIR"] = folder
    return environment.of_task(os.environ, order.env, fixed, sandbox.python_bin())


def _watch_lifeline(task: running.Running, grace_seconds: float) -> None:
    """When the launcher dies, the task is told to end, as by a stop in order."""
    number = os.environ.get("SKERRY_LIFELINE_FD", "")
    if not number.isdigit():
        return
    lifeline = int(number)

    def ended() -> None:
        task.selector.unregister(lifeline)
        task.pass_on(signal.SIGTERM)
        killer = threading.Timer(grace_seconds, task.pass_on, [signal.SIGKILL])
        killer.daemon = True
        killer.start()

    with contextlib.suppress(OSError, ValueError, json.JSONDecodeError):
        task.selector.register(lifeline, 1, ended)
