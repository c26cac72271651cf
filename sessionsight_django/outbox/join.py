"""Lets captured records join the transaction of the code that captures them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from threading import current_thread
from typing import Any

from django.db.utils import Error

from sessionsight.adapters import test_mode
from sessionsight_django.outbox.models import Inbox
from sessionsight_django.transactions import existing_connection, outermost_block

__all__ = ["forget_migrated", "idle_connection", "join_transaction", "joined_connection"]

_joined: ContextVar[Any] = ContextVar("sessionsight_joined", default=None)
# Databases that have the tables. An INSERT without its table would make PostgreSQL roll the transaction back.
_migrated: set[str] = set()


def join_transaction(alias: str, using: object) -> AbstractContextManager[None] | None:
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
    return _joining(connection) if _is_migrated(connection) else None


def joined_connection() -> Any:
    """Return the connection whose transaction the current capture joins, or None."""
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


@contextmanager
def _joining(connection: Any) -> Iterator[None]:
    token = _joined.set(connection)
    try:
        yield
    finally:
        _joined.reset(token)


def _is_migrated(connection: Any) -> bool:
    if connection.alias not in _migrated:
        try:
            with connection.cursor() as cursor:
                found = Inbox._meta.db_table in connection.introspection.table_names(cursor)  # noqa: SLF001
        except Error:  # the transaction has failed before
            return False
        if not found:
            return False
        _migrated.add(connection.alias)
    return True


def forget_migrated() -> None:
    """Look for the tables again. For tests, whose databases come and go."""
    _migrated.clear()
