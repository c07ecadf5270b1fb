"""What a job's supervisors are started with: `training.json` among its workload's files, the same on every node."""

from enum import StrEnum
from typing import Final

import msgspec

SPEC_FILE: Final = "training.json"
"""Below $SKERRY_FILES."""


class Launcher(StrEnum):
    """How the command becomes processes."""

    TORCHRUN = "torchrun"
    """`tasks_per_node` times a node, with torchrun's environment."""
    NONE = "none"
    """Once a node, as it is."""


class HangSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When silence counts as a hang. Seconds; a sign of life is a step, a line of output or a growing checkpoint."""

    factor: float = 10.0
    """Times the median step."""
    floor_seconds: float = 300.0
    """Never sooner than this after the last sign of life."""
    first_step_seconds: float = 1800.0
    """Before the first step of a generation: compilation and data come first."""


class SupervisorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job as its supervisors see it. Nodes, addresses, devices and the attempt come from the engine's environment."""

    job: str
    command: tuple[str, ...]
    secret: str
    """Random, made per job by the control plane (32 bytes or more, as hex): supervisors know each other by it."""
    launcher: Launcher = Launcher.TORCHRUN
    tasks_per_node: int = 1
    accelerators_per_task: int = 0
    max_restarts: int = 3
    """How often it may fail by its own fault within `restart_window_seconds`."""
    restart_window_seconds: float = 3600.0
    env: dict[str, str] = {}
    """The customer's; set before anything of theirs is imported."""
    hang: HangSettings = HangSettings()
    grace_seconds: float = 10.0
    """Between SIGTERM and the engine's SIGKILL: the workload's grace."""
    reached_step: int = 0
    """The highest step that earlier attempts reported: up to it, work is done again."""


def encode(spec: SupervisorSpec) -> str:
    return msgspec.json.encode(spec).decode()


def decode(text: bytes | str) -> SupervisorSpec:
    """Raises msgspec.ValidationError, which names the field."""
    return msgspec.json.decode(text, type=SupervisorSpec)
