"""What the host program is told. It travels in the environment, so no secret is in it."""

from dataclasses import asdict, dataclass
from typing import Any, Final

CONFIG_VARIABLE: Final = "REPLICA_CONFIG"
KEY_FILE: Final = "key"
"""Name of the secret file with the replica's own key."""


@dataclass(frozen=True, slots=True)
class HostConfig:
    model: str
    """Path of the GGUF file; for `bert_host`, of the folder with the checkpoint."""
    alias: str
    """The name it answers with."""
    context_length: int
    """Tokens that one request may use; each slot has as many."""
    slots: int
    """Requests at once; fewer where its machine has not the memory."""
    threads: int | None = None
    """None: one less than the cores it may use."""
    fixed_bytes: int = 0
    """Memory it needs whatever the number of slots."""
    slot_bytes: int = 0
    """Memory of one slot's context."""
    embedding: bool = False
    """Whether it makes vectors rather than text."""
    grace_seconds: float = 30.0
    """How long requests may go on after SIGTERM."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, value: Any) -> "HostConfig":
        """Raises ValueError or TypeError for anything else than what `to_json` gave."""
        config = cls(**value)
        if config.slots < 1 or config.context_length < 1 or (config.threads is not None and config.threads < 1):
            raise ValueError("slots, context_length and threads are at least 1")
        return config
