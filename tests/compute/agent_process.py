"""An agent as a process: `python -m tests.compute.agent_process OPTIONS_JSON`. Prints `ready` once it listens."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import uvloop

from skerry.compute.engines.embedded.agent import Agent
from skerry.compute.engines.embedded.config import AgentConfig, LocalNode
from skerry.compute.engines.embedded.users import RunAs
from skerry.fleet.discover import cgroup_folders
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
        nodes=(LocalNode("local-1", 4, 1 << 30, accelerators, shared),),
        allowed_uids=frozenset(options.get("allowed_uids", [os.getuid()])),
        run_as=RunAs(*options["run_as"]) if options.get("run_as") else None,
        lifeline_fd=options.get("lifeline_fd"),
        cgroups=cgroup_folders() if options.get("cgroups", True) else {},
        log_bytes=options.get("log_bytes", 8 << 20),
        log_parts=options.get("log_parts", 4),
    )


async def main() -> None:
    log.configure("agent")  # to stderr
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    agent = Agent(config(json.loads(sys.argv[1])), SystemClock())
    await agent.run(stopping, on_ready=lambda: print("ready", flush=True))


if __name__ == "__main__":
    # As in production, unless a test wants the standard loop.
    run = asyncio.run if json.loads(sys.argv[1]).get("plain_loop") else uvloop.run
    run(main())
