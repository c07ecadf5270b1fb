"""An agent for tests, as the zygote runs it."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import uvloop

from skerry.compute.engines.embedded.agent import Agent
from skerry.compute.engines.embedded.config import AgentConfig, LocalNode
from skerry.compute.engines.embedded.users import RunAs
from skerry.fleet.cgroups import cgroup_folders
from skerry.kernel.clock import SystemClock
from skerry.runtime import log


def config(options: dict) -> AgentConfig:
    folder = Path(options["folder"])
    accelerators = tuple(range(options.get("accelerators", 4)))
    shared = options.get("shared", True)
    return AgentConfig(
        socket=Path(options.get("socket", folder / "agent.sock")),
        state=folder / "state",
        logs=folder / "logs",
        work=folder / "work",
        nodes=tuple(
            LocalNode(f"local-{number}", 4, 1 << 30, accelerators, shared)
            for number in range(1, options.get("nodes", 1) + 1)
        ),
        allowed_uids=frozenset(options.get("allowed_uids", [os.getuid()])),
        run_as=RunAs(*options["run_as"]) if options.get("run_as") else None,
        cgroups=cgroup_folders() if options.get("cgroups", True) else {},
        log_bytes=options.get("log_bytes", 8 << 20),
        log_parts=options.get("log_parts", 4),
    )


async def serve(agent_config: AgentConfig, ready: Callable[[], None]) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await Agent(agent_config, SystemClock()).run(stopping, on_ready=ready)


def run(options_json: str, ready: Callable[[], None]) -> None:
    """As in production, unless a test wants the standard loop."""
    options = json.loads(options_json)
    log.configure("agent")
    runner = asyncio.run if options.get("plain_loop") else uvloop.run
    lifeline = os.open(options["lifeline"], os.O_RDONLY) if "lifeline" in options else None
    runner(serve(replace(config(options), lifeline_fd=lifeline), ready))
