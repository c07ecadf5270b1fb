"""Refusals of billing. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, Forbidden, NotFound, PaymentRequired


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


class CreditExhausted(PaymentRequired):
    """The organization's credit limit does not cover it."""

    code = "credit_exhausted"


class BudgetExhausted(PaymentRequired):
    """A budget, or a key's own limit, does not cover it."""

    code = "budget_exhausted"


class UnknownContract(NotFound):
    code = "unknown_contract"


class ContractOverlaps(Conflict):
    code = "contract_overlaps"


class ContractEnded(Conflict):
    code = "contract_ended"


class UnknownCharge(NotFound):
    code = "unknown_charge"


class NotSold(Conflict):
    """A reservation of which nothing was agreed on, or that is closed."""

    code = "not_sold"
