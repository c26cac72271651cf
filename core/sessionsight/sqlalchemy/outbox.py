"""Writes the records of a transaction into the outbox, on the connection of its session and before its commit."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from functools import lru_cache
from os.path import realpath
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from sessionsight.capture.records import Record
from sessionsight.capture.transactions import TransactionListener
from sessionsight.errors import ConfigurationError, escape_control_characters
from sessionsight.spool_url import spool_name, sqlalchemy_url
from sessionsight.sql_store import inbox
from sessionsight.sql_store.dialect import is_conflict
from sessionsight.sqlalchemy import tables
from sessionsight.sqlalchemy.connection import Cursor, mapped_error, vendor_of
from sessionsight.test_mode import test_mode

__all__ = ["Waiting", "check", "problem", "write"]

Waiting = tuple[TransactionListener, Record]
"""A record that waits for a transaction, and its listener."""

# Databases whose inbox this process could write. Until then, and after an error, a savepoint protects the transaction:
# PostgreSQL rolls it back for a failed statement.
_written: WeakSet[Engine] = WeakSet()
# What sessions select an engine by: some send everything but UPDATE and DELETE to replicas, as SQLAlchemy's docs show.
_WRITE = update(tables.inbox)
_MAX_RECORDS = 100  # of a row: one of all records might be larger than a packet of MariaDB, which ends the connection
_IN_FAILED_TRANSACTION = "25P02"  # PostgreSQL's SQLSTATE
_LOST_IN_MYSQL = frozenset({1213, 1305, 2006, 2013})  # a deadlock, its effect on a savepoint, and a lost connection


def write(session: Session, waiting: Iterable[Waiting], *, alone: bool) -> list[Waiting]:
    """Write records into the outbox in the transaction of a session, and return those that it has now.

    The others are sent after the commit: those of clients whose spool is another one, and all if the INSERT fails and
    the transaction is unharmed.

    Args:
        session: The session.
        waiting: The records that wait for its outermost transaction.
        alone: The transaction has changed nothing else, and may be READ ONLY.

    Raises:
        DBAPIError: The database has ended the transaction, as PostgreSQL does after any statement that fails. Otherwise
            the app would go on as if its data was committed. Or another transaction prevents its commit, for instance
            if both are SERIALIZABLE.
    """
    if test_mode.active and test_mode.active_for_tests:
        return []  # a recorder sees records after the commit
    by_listener: dict[int, tuple[TransactionListener, list[Record]]] = {}
    for listener, record in waiting:
        if problem(session, listener) is None:
            by_listener.setdefault(id(listener), (listener, []))[1].append(record)
    if not by_listener:
        return []
    try:
        connection = session.connection(bind_arguments={"clause": _WRITE})
    except SQLAlchemyError as error:  # of an engine that the transaction has not used
        _log_failure(by_listener.values(), error)
        return []
    if _autocommits(connection):
        return []
    try:
        writes = [
            made
            for listener, records in by_listener.values()
            for start in range(0, len(records), _MAX_RECORDS)
            for made in listener.encode(records[start : start + _MAX_RECORDS])
        ]
    except Exception:  # reported by the spool, after the commit
        return []
    joined = [(listener, record) for listener, records in by_listener.values() for record in records]
    # Several rows are written or none: the records of those that were not are sent after the commit.
    unsure = connection.dialect.name == "postgresql" and (alone or connection.engine not in _written)
    guarded = unsure or len(writes) > 1
    cursor = Cursor(connection)
    try:
        with connection.begin_nested() if guarded else nullcontext():
            for made in writes:
                if made.counts:
                    inbox.insert(cursor, inbox.row(made.records, made.counts, made.batch_id))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", getattr(error.orig, "pgcode", None)) == _IN_FAILED_TRANSACTION:
            return joined  # a statement of the app has failed before, and nothing of this transaction will remain
        _written.discard(connection.engine)
        if is_conflict(error.orig):
            raise
        _log_failure(by_listener.values(), mapped_error(error))
        if error.connection_invalidated or _is_lost(connection, error, guarded=guarded):
            raise
        return []
    except Exception as error:  # a fault of the driver, which has sent nothing
        _log_failure(by_listener.values(), error)
        return []
    _written.add(connection.engine)
    return joined


def _log_failure(by_listener: Iterable[tuple[TransactionListener, object]], error: Exception) -> None:
    for listener, _ in by_listener:
        message = f"the outbox could not be written in a transaction of SQLAlchemy: {error}"
        listener.client._log(logging.ERROR, message, key="outbox")


def check(session: Session, listener: TransactionListener) -> None:
    """Warn if records of a client cannot be written into the outbox by this session, or raise in strict mode.

    Raises:
        ConfigurationError: In strict mode.
    """
    client = listener.client
    if client.settings.disabled or (test_mode.active and test_mode.active_for_tests):
        return
    if (found := problem(session, listener)) is not None:
        client.warn_or_raise(ConfigurationError(f"{found}; the record is sent after the commit instead"))


def problem(session: Session, listener: TransactionListener) -> str | None:
    """Return why a session cannot write the records of a client into their outbox; None if it can."""
    spool = listener.client.settings.spool
    url = _url_of(spool)
    if url is None:
        return (
            f"bind(outbox=True) writes into the tables of spool='sqlalchemy:<URL of the session's database>', but the "
            f"spool is {spool_name(spool)!r}: set it, or leave outbox out"
        )
    try:
        bound = session.get_bind(clause=_WRITE)
    except Exception as error:  # it may be a method of the app
        return (
            f"the session has no engine for the tables of the outbox ({escape_control_characters(str(error))}): bind "
            "those of sessionsight.sqlalchemy.metadata as well"
        )
    if _autocommits(bound):
        return (
            "the session's engine has isolation_level='AUTOCOMMIT', and no transactions that could write records: bind "
            "the session without outbox=True"
        )
    if _is_other_database(bound.engine.url, url):
        return (
            f"the session writes to the database {bound.engine.url.database!r}, but the spool is "
            f"{spool_name(spool)!r}, from which records are delivered: name the same database in both"
        )
    return None


@lru_cache(maxsize=16)
def _url_of(spool: str) -> URL | None:
    url = sqlalchemy_url(spool)
    return None if url is None else make_url(url)


def _autocommits(bound: Engine | Connection) -> bool:
    """Return whether each statement is a transaction of its own."""
    level = bound.get_execution_options().get("isolation_level")
    return (level or getattr(bound.engine.dialect, "_on_connect_isolation_level", None)) == "AUTOCOMMIT"


def _is_other_database(one: URL, other: URL) -> bool:
    """Return whether two URLs name different databases. Hosts may differ, because of a pooler or a proxy."""
    if vendor_of(one) != vendor_of(other):
        return True
    if one.database is None:  # made by a function
        return False
    if vendor_of(one) == "sqlite":
        return realpath(one.database) != realpath(str(other.database))
    return one.database != other.database


def _is_lost(connection: Connection, error: DBAPIError, *, guarded: bool) -> bool:
    """Return whether a statement that failed, perhaps within a savepoint, has ended the transaction."""
    vendor = vendor_of(connection.engine.url)
    if vendor == "mysql":
        return not _LOST_IN_MYSQL.isdisjoint(getattr(error.orig, "args", ())[:1])
    if vendor == "postgresql":
        return not guarded
    driver: Any = connection.connection.driver_connection
    return not driver.in_transaction  # SQLite ends it on a full disk
