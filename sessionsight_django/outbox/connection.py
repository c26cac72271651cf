"""The database connection that only the outbox uses, and what databases call the same things."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.db.models.constants import OnConflict
from django.db.utils import Error

from sessionsight.stores import AnswerLost, ForeignDatabase, ReentrantCall, StoreBusy, StoreError, StoreUnavailable

__all__ = ["OwnConnection", "contains", "ignore_conflicts", "mapped_errors", "marks", "now", "skip_locked"]

_CONNECT_TIMEOUT = 5
_NOW = {
    "postgresql": "extract(epoch from clock_timestamp())::float8",
    "mysql": "unix_timestamp(now(6))",
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
}
_CONTAINS = {"postgresql": "position(%s::bytea in body) > 0", "mysql": "instr(body, %s) > 0"}
# SQLSTATE codes of PostgreSQL, and error numbers of MySQL and MariaDB.
_BUSY = frozenset({"40001", "40P01", "55P03", 1205, 1213})
_NO_TABLE = frozenset({"42P01", "3F000", 1146})
_LOST = frozenset({2006, 2013, 2055, 4031})
_LOST_CLASSES = frozenset({"08", "57"})


class OwnConnection:
    """A connection with transactions of its own, which the threads of a process use in turn.

    It is opened when it is first used, and again after an error.

    Args:
        alias: The alias of the database.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._pid = os.getpid()
        self._connection: Any = None

    @property
    def is_open(self) -> bool:
        """True after the first use by this process."""
        return self._connection is not None and self._pid == os.getpid()

    @contextlib.contextmanager
    def transaction(self, timeout: float) -> Iterator[Any]:
        """Run the block in a transaction, with a cursor.

        Args:
            timeout: Seconds for which other threads may use the connection, and other processes a SQLite file.

        Raises:
            StoreError: The transaction has changed nothing, or, as `AnswerLost`, may have.
        """
        if self._thread == threading.get_ident():
            raise ReentrantCall("this thread is using the connection")
        if not self._lock.acquire(timeout=timeout):
            raise StoreBusy("other threads are using the connection")
        try:
            self._thread = threading.get_ident()
            with self._transaction(timeout) as cursor:
                yield cursor
        finally:
            self._thread = None
            self._lock.release()

    def close(self) -> None:
        """Close the connection. One that was inherited by a fork belongs to the parent."""
        if self.is_open:
            with contextlib.suppress(Error):
                self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _transaction(self, timeout: float) -> Iterator[Any]:
        try:
            with mapped_errors():
                if self._connection is None:
                    self._connection = _connect(self._alias)
                connection = self._connection
                connection.queries_log.clear()
                with connection.cursor() as cursor:
                    if connection.vendor == "sqlite":
                        cursor.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
                    cursor.execute("BEGIN IMMEDIATE" if connection.vendor == "sqlite" else "BEGIN")
                    yield cursor
                    with mapped_errors(committing=True):
                        cursor.execute("COMMIT")
        except BaseException as error:
            if isinstance(error, StoreBusy) and self._rolled_back():
                raise
            self.close()  # which rolls back
            raise

    def _rolled_back(self) -> bool:
        with contextlib.suppress(Error), self._connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
            return True
        return False


def _connect(alias: str) -> Any:
    """Return a connection that works behind a pooler of transactions, and that any thread may use."""
    connection: Any = connections.create_connection(alias).copy()
    settings = connection.settings_dict
    settings["CONN_MAX_AGE"], settings["CONN_HEALTH_CHECKS"], settings["AUTOCOMMIT"] = None, False, True
    options = settings["OPTIONS"] = dict(settings.get("OPTIONS") or {})
    options.pop("pool", None)
    if connection.vendor != "sqlite":
        options.setdefault("connect_timeout", _CONNECT_TIMEOUT)
    if connection.vendor == "mysql":
        options["isolation_level"] = "read committed"
    connection.inc_thread_sharing()
    connection.connect()
    return connection


@contextlib.contextmanager
def mapped_errors(*, committing: bool = False) -> Iterator[None]:
    """Raise errors of the database as errors of a store.

    Args:
        committing: The block may have had its effect although the connection was lost.
    """
    try:
        yield
    except SynchronousOnlyOperation as error:
        raise StoreUnavailable("the database cannot be used on an event loop") from error
    except Error as error:
        raise _map(error, committing=committing) from error


def _map(error: Error, *, committing: bool) -> StoreError:
    cause, text = error.__cause__, str(error).strip()
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # psycopg 3 or 2
    code = error.args[0] if error.args else None
    if not _NO_TABLE.isdisjoint((state, code)) or "no such table" in text:
        return ForeignDatabase("the tables of sessionsight_django.outbox are missing: run manage.py migrate")
    if not _BUSY.isdisjoint((state, code)) or "is locked" in text:
        return StoreBusy(text)
    without_state = state is None and (hasattr(cause, "sqlstate") or hasattr(cause, "pgcode"))
    lost = without_state or code in _LOST or str(state)[:2] in _LOST_CLASSES
    return AnswerLost(text) if committing and lost else StoreUnavailable(text)


def now(connection: Any) -> str:
    """Return the expression for the server's clock, in Unix seconds."""
    return _NOW[connection.vendor]


def contains(connection: Any) -> str:
    """Return the condition that a body contains bytes, which are its parameter."""
    return _CONTAINS.get(connection.vendor, "instr(body, %s) > 0")


def skip_locked(connection: Any) -> str:
    """Return the clause that locks the selected rows, without those that others have locked."""
    if not connection.features.has_select_for_update_skip_locked:
        return ""  # SQLite has one writer at a time
    return f" {connection.ops.for_update_sql(skip_locked=True)}"


def ignore_conflicts(connection: Any, insert: str) -> str:
    """Return an `INSERT INTO …` that ignores rows which exist already."""
    verb = connection.ops.insert_statement(on_conflict=OnConflict.IGNORE)
    suffix = connection.ops.on_conflict_suffix_sql([], OnConflict.IGNORE, [], [])
    return f"{insert.replace('INSERT INTO', verb, 1)} {suffix}".strip()


def marks(values: Any) -> str:
    """Return the placeholders of a list of values, which has one at least."""
    return ", ".join(["%s"] * len(values))
