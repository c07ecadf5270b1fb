"""Refusals of instances and clusters. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, Invalid, NoCapacity, NotFound, PaymentRequired, Unavailable


class UnknownInstance(NotFound):
    code = "unknown_instance"


class UnknownCluster(NotFound):
    code = "unknown_cluster"


class BadInstance(Invalid):
    """Subcodes and fields say what is wrong with what was asked for."""

    code = "bad_instance"


class InstanceNameTaken(Conflict):
    """The project has an instance or a cluster of this name."""

    code = "instance_name_taken"


class ActionNotAvailable(Conflict):
    """In its present status this cannot be done; `actions` says what can."""

    code = "action_not_available"


class ReservationOver(Conflict):
    """The reservation has ended, was cancelled, or is not bought."""

    code = "reservation_not_usable"


class NothingFree(NoCapacity):
    """There is no capacity for it now. `nearest` is what would start now, `estimated_start` when this would."""

    code = "no_capacity"


class CannotPay(PaymentRequired):
    """Not even the first hour could be paid."""


class IsolationUnavailable(Unavailable):
    """The project is not trusted, and here is nothing that would keep its programs apart from others'."""

    code = "isolation_unavailable"
