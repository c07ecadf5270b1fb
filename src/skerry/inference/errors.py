"""Refusals of inference. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, PaymentRequired, Unavailable

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


class OperatorOnly(Forbidden):
    """Shared endpoints serve every project, so they are the operator's."""

    code = "operator_required"


class EndpointNameTaken(Conflict):
    code = "endpoint_name_taken"


class BadEndpoint(Invalid):
    """Subcodes and fields say what is wrong with what was asked for."""

    code = "bad_endpoint"


class NotNow(Conflict):
    """The endpoint is in a state in which the action is not available; the message says why not."""

    code = "action_not_available"


class NothingToRead(NotFound):
    """There is no replica whose log could be read."""

    code = "no_log"


class CannotPay(PaymentRequired):
    """Not even the first hour could be paid."""
