"""How a command ends, and what it says when it ends badly. Standard library only, since `--help` goes through here."""

from enum import IntEnum


class ExitCode(IntEnum):
    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    NOT_REACHABLE = 3
    NOT_ALLOWED = 4


class Failure(Exception):
    """Ends the command: one clear line, perhaps lines of detail, and what to do about it."""

    def __init__(
        self,
        message: str,
        *,
        suggestion: str = "",
        details: tuple[str, ...] = (),
        code: int = ExitCode.FAILED,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion
        self.details = details
        self.code = code


def wrong_use(message: str, suggestion: str = "") -> Failure:
    return Failure(message, suggestion=suggestion, code=ExitCode.WRONG_USE)
