"""Refusals of training. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, FieldError, Invalid, NotFound, PaymentRequired


class UnknownJob(NotFound):
    code = "unknown_training_job"


class BadJob(Invalid):
    """Subcodes and fields say what is wrong with what was asked for."""

    code = "bad_training_job"


class NotNow(Conflict):
    """The job is in a state in which the action is not available; the message says why not."""

    code = "action_not_available"


class CannotPay(PaymentRequired):
    """Not even its first hour could be paid."""


class NotAJob(NotFound):
    """A report came from a workload that is no training job."""

    code = "not_a_training_job"


def bad(path: str, code: str, words: str, suggestion: str = "") -> BadJob:
    """One thing wrong with one field."""
    return BadJob(words, code=code, suggestion=suggestion, errors=[FieldError(path, code, words)])
