"""Database transactions that records wait for: those of the framework, and those of the app's own sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sessionsight.capture.records import Record
from sessionsight.errors import InvalidEventError, describe

__all__ = [
    "DatabaseSessions",
    "DeferRecord",
    "JoinTransaction",
    "JoinedTransaction",
    "TransactionListener",
    "TransactionLost",
    "defer_record",
    "is_session",
    "register_sessions",
]


class TransactionListener(Protocol):
    """Keeps a deferred record, and receives its outcome."""

    def transaction_pending(self, record: Record) -> None:
        """Keep a record until its transaction has ended. Called by the core if a framework defers it."""

    def transaction_ended(self, record: Record, *, committed: bool) -> None:
        """Submit a deferred record, or count it as rolled back.

        Only the first call for a record counts. May be called on any thread, and by a finalizer.
        """

    def transaction_wrote(self, record: Record) -> None:
        """Forget a deferred record, which its transaction has written and committed."""

    def encode(self, records: Sequence[Record]) -> Sequence[Any]:
        """Return deferred records as the spool stores them, for a transaction that writes them itself."""

    @property
    def client(self) -> Any:
        """The client that the records belong to."""


DeferRecord = Callable[[TransactionListener, Record, str | None], bool]
"""Returns whether a record waits for the end of a database transaction, which its listener is then called with.

The last argument is the alias of a database, if the caller gave one. Raises `InvalidEventError` for an unknown one.
"""


class JoinedTransaction(AbstractContextManager[Any], Protocol):
    """The context in which a record is submitted within an open database transaction."""

    @property
    def failed(self) -> bool:
        """True, after the context, if the record was not written, and may wait for the end of the transaction."""


class TransactionLost(Exception):
    """The database has ended a transaction because a record could not be written in it. Raised to the app.

    Otherwise the app would go on as if its data was committed.

    Args:
        error: The database's error, which the app gets.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


JoinTransaction = Callable[[object], JoinedTransaction | None]
"""Returns a context in which a record is submitted within the open database transaction; None if there is none to join.

The argument is what the caller gave as the database, if anything. The context raises `TransactionLost`.
"""


class DatabaseSessions(Protocol):
    """The sessions of a database library that belongs to no framework, such as SQLAlchemy."""

    def defer(self, listener: TransactionListener, record: Record, session: object) -> bool:
        """Return whether a record waits for a transaction, which the listener is then called with.

        Args:
            listener: Called before another thread can end the transaction, and after the commit or the rollback.
            record: The captured record.
            session: The session that the call names; None for the current one.
        """

    def is_session(self, value: object) -> bool:
        """Return whether a call may name this value as its session."""


_sessions: DatabaseSessions | None = None


def register_sessions(sessions: DatabaseSessions) -> None:
    """Make the records of all clients of this process wait for the transactions of these sessions."""
    global _sessions  # noqa: PLW0603  # the process's own
    _sessions = sessions


def is_session(value: object) -> bool:
    """Return whether `using` may have this value, which is not the alias of a database."""
    return _sessions is not None and _sessions.is_session(value)


def defer_record(framework: DeferRecord | None, listener: TransactionListener, record: Record, using: object) -> bool:
    """Return whether a record waits for a transaction: of the framework or, without one, of a session.

    Raises:
        InvalidEventError: The framework has no database of that alias, or no framework has databases.
    """
    if framework is None and isinstance(using, str):
        raise InvalidEventError(f"using: there is no database {describe(using)}, because this client is not Django's")
    if framework is not None and (using is None or isinstance(using, str)) and framework(listener, record, using):
        listener.transaction_pending(record)
        return True
    return _sessions is not None and not isinstance(using, str) and _sessions.defer(listener, record, using)
