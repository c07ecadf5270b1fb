"""The agent that serves a Slurm, for tests that kill it: `python agent_process.py DOOR_FOLDER CONFIG_JSON`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import uvloop

from skerry.compute.engines.embedded.config import AgentConfig
from skerry.compute.engines.select import slurm_agent
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.kernel.clock import SystemClock
from skerry.runtime import log


async def serve(folder: Path, config: SlurmConfig) -> None:
    door = AgentConfig(
        socket=folder / "agent.sock",
        state=folder / "door",
        logs=folder / "logs",
        work=folder / "work",
        nodes=(),
        allowed_uids=frozenset([os.getuid()]),
    )
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await slurm_agent(door, config, SystemClock()).run(stopping)


if __name__ == "__main__":
    log.configure("agent", "warning")
    uvloop.run(
        serve(
            Path(sys.argv[1]),
            msgspec.json.decode(sys.argv[2], type=SlurmConfig, dec_hook=lambda kind, text: kind(text)),
        )
    )
