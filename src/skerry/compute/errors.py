"""Refusals of compute. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, Invalid, NotFound


class UnknownWorkload(NotFound):
    code = "unknown_workload"


class UnknownAttempt(NotFound):
    code = "unknown_attempt"


class UnknownRank(NotFound):
    code = "unknown_rank"


class InvalidWorkload(Invalid):
    code = "invalid_workload"


class NotEnded(Conflict):
    """It can be started again only once it has ended."""

    code = "workload_not_ended"
