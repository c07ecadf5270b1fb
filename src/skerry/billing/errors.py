"""Refusals of billing. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, Forbidden, NotFound


class UnknownBudget(NotFound):
    code = "unknown_budget"


class UnknownLease(NotFound):
    code = "unknown_lease"


class LeaseStillLive(Conflict):
    code = "lease_still_live"


class NotABudget(Conflict):
    """A limit that is changed elsewhere, or not by customers."""

    code = "not_a_budget"


class CreditLimitIsOperators(Forbidden):
    code = "operator_required"
