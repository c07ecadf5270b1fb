"""Refusals of inference. Codes are part of the public surface."""

from skerry.kernel.errors import FieldError, Invalid, NotFound, Unavailable

_GIB = 1024**3


class UnknownEndpoint(NotFound):
    code = "unknown_endpoint"


class ReplicaNotUsable(Unavailable):
    """A replica did not answer a probe as it should; the message says how."""

    code = "replica_not_usable"


class ModelTooLarge(Invalid):
    code = "model_too_large"

    def __init__(self, name: str, needed: int, limit: int, context: int) -> None:
        words = (
            f"a replica of {name} with a context of {context} tokens needs about {needed / _GIB:.1f} GiB of memory, "
            f"and may use {limit / _GIB:.1f} GiB"
        )
        super().__init__(
            words,
            suggestion="Give a smaller context_length, or raise SKERRY_REPLICA_MEMORY_BYTES and start again.",
            errors=[FieldError("context_length", self.code, words)],
        )


class UnknownCallableModel(NotFound):
    """On `/v1`, in the words of OpenAI."""

    code = "model_not_found"
