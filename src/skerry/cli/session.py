"""What every command that talks to a cloud is given: the connection, and a way to answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from skerry.cli.failures import ExitCode, Failure, wrong_use
from skerry.cli.output import Answers
from skerry.cli.speech import interactive, note
from skerry.client import (
    ApiError,
    Connection,
    Credentials,
    Forbidden,
    MissingKey,
    NotConfigured,
    NotReachable,
    Skerry,
    SkerryError,
    Unauthorized,
)
from skerry.client.answers.base import Money


@dataclass(frozen=True, slots=True)
class Session:
    """One command's run. `out` is where its answer goes; words go through `speech`."""

    out: Answers
    profile: str | None = None
    project: str | None = None

    def connection(self, *, operator: bool = False) -> Connection:
        """Address and key. Another project than the key's own can only be reached by an operator."""
        wants_operator = operator or self.project is not None
        return Credentials.load().resolve(profile=self.profile, operator=wants_operator)

    @contextmanager
    def client(self, *, operator: bool = False) -> Iterator[Skerry]:
        """A client for the length of the block; its errors end the command, in words. `operator`: see `connection`."""
        with in_words():
            found = self.connection(operator=operator)
            with Skerry(found.url, found.api_key, project=self.project, ca_cert=found.ca_cert) as client:
                yield client

    def require_own_project(self, what: str) -> None:
        """`/v1` knows no other project than the key's own."""
        if self.project is not None:
            suggestion = "Use a key of that project: --profile, or SKERRY_API_KEY."
            raise wrong_use(f"{what} belongs to the project of its key.", suggestion)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Goes on only if the user agrees, now or by --yes."""
        if yes:
            return
        if not interactive():
            raise wrong_use("There is nobody to ask.", "Say --yes to go ahead without a question.")
        typer.confirm(question, abort=True, err=True)

    def agree(self, cost: Money, words: str, *, yes: bool) -> None:
        """Goes on where it costs nothing, or the user agrees to what it costs. `words` say what for."""
        if not self.out.as_json:
            note(words)
        if cost.amount > 0:
            self.confirm("Go ahead?", yes=yes)


@contextmanager
def in_words() -> Iterator[None]:
    """Turns the client's errors into failures of the command."""
    try:
        yield
    except SkerryError as error:
        raise failure_of(error) from error


def failure_of(error: SkerryError) -> Failure:
    details: tuple[str, ...] = ()
    if isinstance(error, ApiError):
        # A refusal for one field says it in its detail already.
        fields = (field for field in error.errors if field.message not in error.detail)
        details = tuple(f"{field.path}: {field.message}" if field.path else field.message for field in fields)
        if error.status >= 500 and error.request_id:
            details += (f"request {error.request_id}",)
    return Failure(error.detail, suggestion=error.suggestion, details=details, code=_code(error))


def _code(error: SkerryError) -> ExitCode:
    match error:
        case NotReachable():
            return ExitCode.NOT_REACHABLE
        case Unauthorized() | Forbidden() | MissingKey():
            return ExitCode.NOT_ALLOWED
        case NotConfigured():
            return ExitCode.WRONG_USE
    return ExitCode.FAILED
