"""What the host program of vLLM is told. It travels in the environment, so no secret is in it."""

from dataclasses import asdict, dataclass
from typing import Any, Final

CONFIG_VARIABLE: Final = "REPLICA_CONFIG"
KEY_FILE: Final = "key"
"""Name of the secret file with the replica's own key."""


@dataclass(frozen=True, slots=True)
class VllmConfig:
    python: str
    """The interpreter that has vLLM: not ours."""
    model: str
    """The folder with safetensors."""
    alias: str
    """The name it answers with."""
    context_length: int
    slots: int
    """Requests it works on at once."""
    tensor_parallel: int = 1
    chat: bool = True
    """Whether the model has a chat template."""
    lora: bool = True
    max_lora_rank: int = 64
    max_loras: int = 8
    """Adapters in one batch."""
    device: str = "cuda"
    tool_parser: str | None = None
    start_seconds: float = 1800.0
    """How long loading and compiling may take."""
    grace_seconds: float = 60.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, value: Any) -> "VllmConfig":
        """Raises ValueError or TypeError for anything else than what `to_json` gave."""
        config = cls(**value)
        if min(config.slots, config.context_length, config.tensor_parallel) < 1:
            raise ValueError("slots, context_length and tensor_parallel are at least 1")
        return config
