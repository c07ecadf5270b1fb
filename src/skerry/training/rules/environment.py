"""The environment of one rank: torchrun's, and ours."""

from collections.abc import Sequence
from dataclasses import dataclass

from skerry.training.rules.commands import Program


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank stands. `devices` are those of its node, by index."""

    node_rank: int
    nodes: int
    local_rank: int
    tasks_per_node: int
    devices: tuple[str, ...] = ()
    accelerators_per_task: int = 0

    @property
    def rank(self) -> int:
        return self.node_rank * self.tasks_per_node + self.local_rank

    @property
    def world_size(self) -> int:
        return self.nodes * self.tasks_per_node


@dataclass(frozen=True, slots=True)
class Generation:
    """What is the same for all ranks that run together. `max_restarts` is for programs that ask torchrun's variable."""

    number: int
    master_address: str
    master_port: int
    job: str
    max_restarts: int = 0
    checkpoint: str = ""
    checkpoint_step: int = 0


def rank_environment(place: Place, generation: Generation, program: Program) -> dict[str, str]:
    local_rank = 0 if program.virtual_local_rank else place.local_rank
    env = {
        "RANK": place.rank,
        "LOCAL_RANK": local_rank,
        "WORLD_SIZE": place.world_size,
        "LOCAL_WORLD_SIZE": place.tasks_per_node,
        "NODE_RANK": place.node_rank,
        "GROUP_RANK": place.node_rank,
        "GROUP_WORLD_SIZE": place.nodes,
        "ROLE_NAME": "default",
        "ROLE_RANK": place.rank,
        "ROLE_WORLD_SIZE": place.world_size,
        "MASTER_ADDR": generation.master_address,
        "MASTER_PORT": generation.master_port,
        "TORCHELASTIC_RUN_ID": generation.job,
        "TORCHELASTIC_RESTART_COUNT": generation.number - 1,
        "TORCHELASTIC_MAX_RESTARTS": generation.max_restarts,
        # Rank 0 opens the store of its generation; nothing of an earlier one can be read there.
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "SKERRY_GENERATION": generation.number,
        "SKERRY_RESUME_STEP": generation.checkpoint_step,
        "SKERRY_RESUME_FROM": generation.checkpoint,
        **devices(place, virtual=program.virtual_local_rank),
    }
    return {name: str(value) for name, value in env.items()}


def devices(place: Place, *, virtual: bool) -> dict[str, str]:
    """With one accelerator a rank, all of the node's are seen, as under torchrun: programs take the one whose number is
    LOCAL_RANK. With more, or where LOCAL_RANK is made 0, a rank sees its own only, from 0 on.
    """
    if not place.devices or not place.accelerators_per_task:
        return {}
    own = _share(place.devices, place.local_rank, place.accelerators_per_task)
    seen: Sequence[str] = own if virtual or place.accelerators_per_task > 1 else place.devices
    return {"CUDA_VISIBLE_DEVICES": ",".join(seen), "SKERRY_TASK_DEVICES": ",".join(own)}


def _share(devices: tuple[str, ...], index: int, size: int) -> tuple[str, ...]:
    return devices[index * size : (index + 1) * size]
