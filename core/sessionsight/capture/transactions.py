"""Database transactions that records wait for: those of the framework, and those of the app's own sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sessionsight.capture.records import Record
from sessionsight.errors import InvalidEventError, describe
from sessionsight.event_loop import on_event_loop

__all__ = [
    "DatabaseSessions",
    "DeferRecord",
    "JoinTransaction",
    "JoinedTransaction",
    "TransactionListener",
    "TransactionLost",
    "defer_record",
    "is_session",
    "pass_to_transaction",
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

    def writes(self, listener: TransactionListener, session: object) -> bool:
        """Return whether the transaction that `defer` would choose writes the listener's records itself."""

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


def pass_to_transaction(
    listener: TransactionListener, record: Record, options: Mapping[str, Any], submit: Callable[[list[Record]], None]
) -> bool:
    """Return whether the app's open transaction has a record now: it has written it, or the record waits for its end.

    Args:
        listener: Keeps the record while it waits.
        record: The captured record.
        options: Those of the call, `validation.CommitOptions` among them.
        submit: Submits records, to be written within the transaction.

    Raises:
        InvalidEventError: The call demands a transaction that writes the record, in strict mode, or `using` is wrong.
        TransactionLost: The database has ended the transaction.
    """
    client, using, required = listener.client, options.get("using"), options.get("in_transaction")
    join: JoinTransaction | None = client.join_transaction
    joined = None if join is None else join(using)
    if joined is not None:
        with joined:
            submit([record])
        if not joined.failed:
            return True
    if required and not client.is_recorded and not _session_writes(listener, using):
        client.warn_or_raise(_not_written(join, joined))
    if defer_record(client.defer_record, listener, record, using):
        return True
    if required and client.is_recorded:
        client.warn_or_raise(_not_written(join, joined))
    return False


def _session_writes(listener: TransactionListener, using: object) -> bool:
    return _sessions is not None and not isinstance(using, str) and _sessions.writes(listener, using)


def _not_written(join: JoinTransaction | None, joined: JoinedTransaction | None) -> InvalidEventError:
    """Return the error for a record that the open transaction could not write."""
    if joined is not None:
        reason = "it could not be written in it; the database's error is in the log"
    elif join is None:
        reason = (
            "it needs spool='django' and atomic(), or a session of SQLAlchemy in a transaction, and bind(outbox=True)"
        )
    elif on_event_loop():
        reason = "transactions cannot be used on an event loop; capture inside sync_to_async"
    else:
        reason = "the spool's database has no open one; capture inside atomic()"
    return InvalidEventError(f"in_transaction: the record cannot be part of a transaction: {reason}")
