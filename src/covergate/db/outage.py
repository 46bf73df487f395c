"""Tells a database that is away from a mistake of ours: the same work may succeed in a moment, or never will.

`is_away` alone decides this. It looks through wrapped errors, because asyncpg's come wrapped by SQLAlchemy in some places
and bare in others, and goes by SQLSTATE (PostgreSQL's appendix A), never by an error's text.
"""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

DATABASE_ERRORS = (
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""Every error that using the database can raise; TimeoutError is an OSError."""

AWAY: dict[str, str] = {
    "08": "connection exception; also all of PgBouncer's own errors (08P01)",
    "25006": "read-only: this server is a standby now",
    "25P03": "idle in transaction for too long, e.g. while the process was paused",
    "25P04": "the transaction took too long",
    "40000": "rolled back",
    "40001": "could not be serialized, or in the way of a standby's recovery",
    "40003": "the connection broke: whether the statement ran is unknown",
    "40P01": "deadlock",
    "53": "no memory, no disk space, no connection left",
    "55000": "not in the state for it, e.g. in recovery",
    "55P03": "a lock was not to be had in time",
    "57": "an operator or a time limit intervened; shutting down; starting up",
    "58000": "system error",
    "58030": "input/output error",
}
"""SQLSTATE, or its first two characters for a whole class → what happened."""

LOST: dict[str, str] = {
    "08": AWAY["08"],
    "25006": AWAY["25006"],
    "25P03": AWAY["25P03"],
    "57P01": "the server shuts down, or an administrator ended the connection",
    "57P02": "another backend crashed",
    "57P03": "starting up or shutting down",
    "57P04": "the database was dropped",
    "57P05": "idle for too long",
}
"""Of these, those after which the connection itself is of no use: another may reach a better server."""


LOCKED = ("40P01", "55P03")
"""Of these, those that say: somebody has a lock. Only who needs it too has to wait."""


def is_locked(error: BaseException) -> bool:
    """It is `is_away` for what needs that lock. Others, of the same batch too, can be written."""
    return any(getattr(cause, "sqlstate", None) in LOCKED for cause in _causes(error))


def is_away(error: BaseException) -> bool:
    """The database cannot do it now; the same may work in a moment."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_away(part) for part in error.exceptions)
    return any(_is_away(cause) for cause in _causes(error))


def is_lost(error: BaseException) -> bool:
    """The connection must not be used again, although it may still be open, e.g. because it was silent for too long."""
    return any(
        isinstance(cause, TimeoutError | asyncpg.InternalClientError) or _listed(cause, LOST)
        for cause in _causes(error)
    )


def _is_away(error: BaseException) -> bool:
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, asyncpg.PostgresError):
        # The schema was migrated under a prepared statement; asyncpg prepares it anew.
        return _listed(error, AWAY) or isinstance(error, asyncpg.InvalidCachedStatementError)
    if isinstance(error, asyncpg.InterfaceError):
        # Wrong arguments are InterfaceErrors to asyncpg, too.
        return not isinstance(error, ValueError | asyncpg.UnsupportedClientFeatureError)
    # InternalClientError: asyncpg did not foresee it, e.g. a server's last words between two statements; also: no host can
    # be written to.
    return isinstance(error, OSError | PoolTimeout | asyncpg.InternalClientError)


def _listed(error: BaseException, states: dict[str, str]) -> bool:
    state: str = getattr(error, "sqlstate", None) or ""
    return state in states or state[:2] in states


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from; not what was merely being handled when it was raised."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or getattr(cause, "orig", None)
