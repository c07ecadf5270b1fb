"""What can be wrong with what an operator asks."""

from skerry.kernel.errors import Conflict, NotFound


class UnknownRemediation(NotFound):
    code = "unknown_remediation"


class CannotDecide(Conflict):
    """It is past the point where that could be said of it."""

    code = "remediation_moved_on"


class CheckRuns(Conflict):
    """One check at a time on a node."""

    code = "check_runs"
