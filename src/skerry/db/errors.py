"""What can go wrong with a database, as one clear line each."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import exc

from skerry.kernel.errors import Unavailable

_SUGGESTION = "Try again in a moment; `/readyz` says when the database is back."
_RETRY_SECONDS = 2


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached or went away during a transaction. Nothing of the transaction is known to hold."""

    code = "database_unavailable"

    def __init__(self, detail: str = "The database is not reachable.") -> None:
        super().__init__(detail, suggestion=_SUGGESTION, retry_after=_RETRY_SECONDS)


class UnsupportedDatabase(RuntimeError):
    """The server is older than PostgreSQL 15."""


class NewerDatabase(RuntimeError):
    """The schema was written by a newer Skerry than this one."""


class EmbeddedPostgresError(RuntimeError):
    """The embedded database cannot be run; the message is one clear line."""


class DataFolderError(EmbeddedPostgresError):
    """The data folder is not fit: in use, of another version, or not a database at all."""


@contextmanager
def database_away_is_unavailable() -> Iterator[None]:
    """Turn the driver's and the pool's ways of saying "no server" into DatabaseUnavailable; pass all else on."""
    try:
        yield
    except exc.DBAPIError as error:
        if error.connection_invalidated or is_away(error.orig):
            raise DatabaseUnavailable(_words(error.orig)) from error
        raise
    except psycopg.Error as error:
        if is_away(error):
            raise DatabaseUnavailable(_words(error)) from error
        raise
    except exc.TimeoutError as error:
        raise DatabaseUnavailable("All connections to the database are busy.") from error


def is_away(error: BaseException | None) -> bool:
    """Whether an error of the driver says that the server is not there, rather than that a statement failed."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    state = error.sqlstate
    if state is None:
        # No answer of a server at all: refused, closed, timed out. A closed connection is an OperationalError too.
        return isinstance(error, psycopg.OperationalError) or "closed" in str(error)
    # 08 connection, 57P01..57P05 shut down, starting up or dropped, 53 out of connections, disk or memory.
    return state.startswith(("08", "57P", "53"))


def _words(error: BaseException | None) -> str:
    state = getattr(error, "sqlstate", None)
    if state == "53100":
        return "The database's disk is full."
    if state == "53300":
        return "The database accepts no more connections."
    return "The database is not reachable."
