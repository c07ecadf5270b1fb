"""Refusals of compute. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, Invalid, Malformed, NotFound, TooLarge


class UnknownWorkload(NotFound):
    code = "unknown_workload"


class UnknownAttempt(NotFound):
    code = "unknown_attempt"


class UnknownRank(NotFound):
    code = "unknown_rank"


class InvalidWorkload(Invalid):
    code = "invalid_workload"


class UnknownArtifact(NotFound):
    code = "unknown_artifact"


class BadArtifactPath(Malformed):
    code = "bad_artifact_path"


class WrongOffset(Conflict):
    """A part of an artifact does not follow what came before; `offset` says what does."""

    code = "wrong_offset"

    def __init__(self, offset: int) -> None:
        words = f"{offset} bytes of it are here: the next part begins there."
        super().__init__(words, suggestion="Go on from there, or begin anew at 0.", extra={"offset": offset})


class ArtifactQuotaExceeded(TooLarge):
    code = "artifact_quota_exceeded"

    def __init__(self, limit: int) -> None:
        words = f"The artifacts of this workload may have {limit} bytes in all."
        super().__init__(words, suggestion="Keep fewer or smaller checkpoints, or ask your operator for more.")


class NoSource(NotFound):
    """The workload has no source archive."""

    code = "no_source"


class NotEnded(Conflict):
    """It can be started again only once it has ended."""

    code = "workload_not_ended"
