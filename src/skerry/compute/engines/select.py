"""Which engine a cloud has: `--engine`, or the setting of that name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from skerry.compute.engines.embedded.agent import Agent
from skerry.compute.engines.embedded.client import EmbeddedEngine
from skerry.compute.engines.embedded.config import AgentConfig
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.compute.engines.slurm.engine import SlurmEngine
from skerry.compute.engines.slurm.serving import ServedSlurm, SlurmClient
from skerry.kernel.clock import Clock

_CLIENTS: Final[Mapping[str, Callable[[Path], EmbeddedEngine]]] = {
    EmbeddedEngine.name: EmbeddedEngine,
    SlurmClient.name: SlurmClient,
}


def client_of(engine: str, agent_socket: Path) -> EmbeddedEngine:
    """The engine as server and controller see it: the agent's door, whatever is behind it. Raises KeyError."""
    return _CLIENTS[engine](agent_socket)


def agent_of(config: AgentConfig, clock: Clock, slurm: SlurmConfig | None) -> Agent:
    """The agent that serves it: this machine, or with `slurm` a fleet."""
    if slurm is None:
        return Agent(config, clock)
    return Agent(config, clock, lambda _, its_clock: ServedSlurm(SlurmEngine(slurm, its_clock)))
