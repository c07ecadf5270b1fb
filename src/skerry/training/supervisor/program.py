"""One node's supervisor, from its start to its exit code."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec

from skerry.training import spec as specs
from skerry.training.reporting import End, Exit
from skerry.training.rules.commands import BadCommand, Program, parse
from skerry.training.spec import SPEC_FILE, SupervisorSpec
from skerry.training.supervisor import place
from skerry.training.supervisor.follower import Follower, LeaderLost
from skerry.training.supervisor.leader import Leader
from skerry.training.supervisor.log import say
from skerry.training.supervisor.node import Node
from skerry.training.supervisor.place import BadPlace, Here
from skerry.training.supervisor.reporter import Reporter
from skerry.training.supervisor.times import Stopwatch

_LAST_WORDS_SECONDS: Final = 5.0

T = TypeVar("T")


def main() -> int:
    try:
        here = place.read(os.environ)
        spec = specs.decode((here.files / SPEC_FILE).read_bytes())
        program = parse(spec.command, spec.launcher, nodes=here.nodes, tasks_per_node=spec.tasks_per_node)
    except (BadPlace, BadCommand, OSError, msgspec.MsgspecError) as error:
        say(f"this job cannot be run: {error}")
        return Exit.REFUSED
    return asyncio.run(_lead(here, spec, program) if here.leads else _follow(here, spec, program))


async def _lead(here: Here, spec: SupervisorSpec, program: Program) -> int:
    leader = Leader(here, spec, program, Stopwatch())
    node = Node(here, spec, program, lambda message: leader.heard(0, message))
    leader.peers.attach(node)
    reporter = Reporter(here.api_url, here.files, leader.story.report, leader.command)
    leader.story.important = reporter.hurry
    _on_sigterm(leader.ask_to_stop)
    working = [asyncio.create_task(node.run()), asyncio.create_task(reporter.run())]
    end = await _unless_broken(leader.run(), working)
    await _stop(working)
    _write_report(here, end)
    await reporter.last_words(_LAST_WORDS_SECONDS)
    await leader.close()
    return end.exit_code


async def _follow(here: Here, spec: SupervisorSpec, program: Program) -> int:
    follower = Follower(here, spec.secret)
    node = Node(here, spec, program, follower.emit)
    follower.attach(node)
    _on_sigterm(follower.ask_to_stop)
    working = [asyncio.create_task(node.run())]
    try:
        finish = await _unless_broken(follower.run(), working)
        code, why = finish.exit_code, finish.why
    except LeaderLost as error:
        code, why = Exit.LOST_PEER, str(error)
    await _stop(working)
    say(why)
    return code


def _on_sigterm(ask: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)


async def _unless_broken(work: Coroutine[Any, Any, T], beside: list[asyncio.Task[None]]) -> T:
    """The result of `work`. What fails beside it fails all: half a supervisor is none."""
    main = asyncio.create_task(work)
    try:
        while not main.done():
            waiting = {main, *(task for task in beside if not task.done())}
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {main}:
                task.result()
        return main.result()
    finally:
        main.cancel()


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _write_report(here: Here, end: End) -> None:
    """Beside the last report: the engine has it even while the control plane is away."""
    if here.report is None:
        return
    draft = here.report.with_suffix(".draft")
    with suppress(OSError):
        draft.write_text(json.dumps({"end": msgspec.to_builtins(end)}))
        draft.replace(here.report)
