"""Lets captured records join the transaction of the code that captures them."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from threading import current_thread
from types import TracebackType
from typing import Any, Self

from django.db.utils import Error

from sessionsight.adapters import JoinedTransaction, TransactionLost, on_event_loop, test_mode
from sessionsight.sql_store.dialect import is_conflict
from sessionsight_django.transactions import existing_connection, outermost_block

__all__ = ["OpenTransaction", "forget_written", "idle_connection", "join_transaction", "joined_transaction"]

_joined: ContextVar[OpenTransaction | None] = ContextVar("sessionsight_joined", default=None)
# Databases whose inbox this process could write. Until then, and after an error, a savepoint protects the transaction:
# PostgreSQL rolls it back for a failed statement.
_written: set[str] = set()
# Databases with READ ONLY transactions, which cannot be told from others: all are protected.
_guarded: set[str] = set()
_IN_FAILED_TRANSACTION, _READ_ONLY = "25P02", "25006"  # PostgreSQL's SQLSTATE
_LOST_IN_MYSQL = frozenset({1213, 2006, 2013})  # a deadlock, and a lost connection


def join_transaction(alias: str, using: object) -> JoinedTransaction | None:
    """Return a context in which the outbox writes into the open transaction; None if there is none to join.

    Args:
        alias: The database of the outbox.
        using: The database whose transaction a capture should join, if it names one.
    """
    if using not in (None, alias) or (test_mode.active and test_mode.active_for_tests):
        return None
    connection = existing_connection(alias)
    if connection is None or outermost_block(connection) is None or connection.needs_rollback:
        return None
    return None if on_event_loop() else OpenTransaction(connection)


def joined_transaction() -> OpenTransaction | None:
    """Return the transaction that the current capture joins, or None."""
    return _joined.get()


def idle_connection(alias: str) -> Any:
    """Return this thread's connection to a database if it is open and in no transaction of the app; otherwise None.

    The transaction of a `TestCase` counts as none.
    """
    connection = existing_connection(alias)
    if connection is None or connection.connection is None:
        return None
    # Django closes the old connections of its own threads only.
    if current_thread().name.startswith("sessionsight-"):
        return None
    # Without autocommit outside a block, Django is ending a transaction, or the app has one of its own making.
    in_test = connection.in_atomic_block and outermost_block(connection) is None
    return connection if in_test or connection.autocommit else None


class OpenTransaction:
    """A transaction of the app, into which one record is written."""

    __slots__ = ("_connection", "_error", "_savepoint", "_token", "failed")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._error: Error | None = None
        self._savepoint: str | None = None
        self.failed = False

    def __enter__(self) -> Self:
        self._token: Token[OpenTransaction | None] = _joined.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _joined.reset(self._token)
        if self._error is not None and not self.failed:
            raise TransactionLost(self._error)

    def write(self, insert: Callable[[Any], None]) -> Error | None:
        """Run an INSERT, and return its error if it is not the app's.

        After an error the transaction is as it was before, so that the record may wait for its end. If it cannot be
        restored, the end of the context raises.
        """
        alias = self._connection.alias
        try:
            if alias not in _written:
                self._savepoint = self._connection.savepoint()
            with self._connection.cursor() as cursor:
                insert(cursor)
            if self._savepoint is not None:
                self._connection.savepoint_commit(self._savepoint)
                if alias not in _guarded:
                    _written.add(alias)
        except Error as error:
            state = getattr(error.__cause__, "sqlstate", getattr(error.__cause__, "pgcode", None))  # psycopg 3 or 2
            if state == _IN_FAILED_TRANSACTION:
                return None  # a statement of the app has failed before, and nothing of this transaction will remain
            if state == _READ_ONLY:
                _guarded.add(alias)
            _written.discard(alias)
            self._error = error
            self.failed = not is_conflict(error.__cause__) and self._restored(error)
        return self._error

    def _restored(self, error: Error) -> bool:
        """Undo what a failed statement has done to the transaction, and return whether that is possible."""
        connection = self._connection
        if self._savepoint is not None:
            try:
                connection.savepoint_rollback(self._savepoint)
            except Error:
                return False
            return True
        # Only the statement is undone, except by PostgreSQL, after a deadlock, and by SQLite on a full disk.
        if connection.vendor == "mysql":
            return _LOST_IN_MYSQL.isdisjoint(error.args[:1])
        return bool(connection.vendor == "sqlite" and connection.connection.in_transaction)


def forget_written() -> None:
    """Protect the next transactions by a savepoint again. For tests, whose databases come and go."""
    _written.clear()
    _guarded.clear()
