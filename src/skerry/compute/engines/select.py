"""Which engines a cloud has: `--engine`, or the setting of that name.

This machine's engine is always there. Beside a Slurm it has one node, the server's own (`SERVER_NODE`), which is none
of the fleet.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from skerry.compute.engines.base import Engine
from skerry.compute.engines.embedded.agent import Agent
from skerry.compute.engines.embedded.client import EmbeddedEngine
from skerry.compute.engines.embedded.config import AgentConfig
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.compute.engines.slurm.engine import SlurmEngine
from skerry.compute.engines.slurm.serving import ServedSlurm, SlurmClient
from skerry.kernel.clock import Clock


def clients_of(engine: str, agent_socket: Path) -> dict[str, Engine]:
    """The engines as server and controller see them, by name: the agent's doors. The fleet's own comes first."""
    here = EmbeddedEngine(agent_socket)
    if engine == EmbeddedEngine.name:
        return {here.name: here}
    fleet = SlurmClient(slurm_door(agent_socket))
    return {fleet.name: fleet, here.name: here}


def slurm_door(agent_socket: Path) -> Path:
    return agent_socket.with_name("slurm.sock")


async def serve(
    config: AgentConfig,
    clock: Clock,
    slurm: tuple[AgentConfig, SlurmConfig] | None,
    stopping: asyncio.Event,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """This machine behind its door and, with `slurm`, a fleet behind another, until `stopping` is set.

    Raises AgentRunning; when one of the two cannot go on, the other ends in order.
    """
    agents = [Agent(config, clock)]
    if slurm is not None:
        agents.append(slurm_agent(*slurm, clock))
    waiting = len(agents)

    def one_is_ready() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            on_ready()

    running = [asyncio.create_task(agent.run(stopping, one_is_ready)) for agent in agents]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        stopping.set()
        results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def slurm_agent(door: AgentConfig, config: SlurmConfig, clock: Clock) -> Agent:
    """The same door and the same verbs, with a fleet behind them."""
    return Agent(door, clock, lambda _, its_clock: ServedSlurm(SlurmEngine(config, its_clock)))


def main_engine(engines: Mapping[str, Engine]) -> Engine:
    """The one that has the fleet."""
    return next(iter(engines.values()))
