"""The hot paths: what each of them is asked for. Plain objects and numbers, since enums are slow to compare."""

from typing import Final

from skerry.inference.engines.base import Task

CHAT: Final = 0
COMPLETION: Final = 1
EMBEDDING: Final = 2


class Kind:
    """One hot path."""

    def __init__(self, number: int, task: Task, path: str) -> None:
        self.number = number
        self.task = task
        self.name: str = task.value
        self.path = path


KINDS: Final = (
    Kind(CHAT, Task.CHAT, "/v1/chat/completions"),
    Kind(COMPLETION, Task.COMPLETION, "/v1/completions"),
    Kind(EMBEDDING, Task.EMBEDDING, "/v1/embeddings"),
)
