"""Checks the database of an outbox: whether it can be used, and whether relays keep up."""

from __future__ import annotations

import re
from typing import Any

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import open_database_store
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.diagnosis.findings import Finding
from sessionsight.log import ThrottledLogger
from sessionsight.sql_store.dialect import now

__all__ = ["check_sqlalchemy", "dead_rows", "old_transaction", "too_old", "waiting_records"]

_MAX_WAITING = 300.0  # seconds
_MAX_TRANSACTION = 3600.0
# A migration lets autovacuum begin at 1,000.
_MAX_DEAD_ROWS = 100_000
_VERSION = {"postgresql": "SHOW server_version", "mysql": "SELECT version()", "sqlite": "SELECT sqlite_version()"}
# The first ones with SKIP LOCKED.
_OLDEST = {"MariaDB": (10, 6, 0), "MySQL": (8, 0, 1)}


def check_sqlalchemy(spool: str, timeout: float) -> list[Finding]:
    """Connect to the database of `spool="sqlalchemy:<URL>"`, and check its version and its tables. Writes nothing.

    Args:
        spool: The setting.
        timeout: Seconds to wait for a SQLite file.
    """
    from sessionsight.sqlalchemy.tables import metadata

    store = open_database_store(spool, DeliveryOptions(), ThrottledLogger(), timeout=timeout)

    def inspect(cursor: Any) -> tuple[str, str, list[Finding | None]]:
        for table in metadata.sorted_tables:
            cursor.execute(f"SELECT {', '.join(table.columns.keys())} FROM {table.name} WHERE 1 = 0")
        cursor.execute(_VERSION[cursor.db.vendor])
        version = str(cursor.fetchone()[0])
        found = [waiting_records(cursor, relay="sessionsight relay"), old_transaction(cursor), dead_rows(cursor)]
        return cursor.db.vendor, version, found

    try:
        vendor, version, found = store._run(inspect, timeout)
    except StoreError as error:
        hint = "records wait in memory until it can be used, where a kill loses them"
        return [
            Finding(
                level="error", subject="spool", message=f"{store.name}: {str(error).partition(chr(10))[0]}", hint=hint
            )
        ]
    finally:
        store.close()
    if vendor == "mysql" and (oldest := too_old(version)):
        message, hint = f"{store.name} has version {version}, which is too old", f"use {oldest} or newer"
        found.append(Finding(level="error", subject="spool", message=message, hint=hint))
    answers = Finding(level="ok", subject="spool", message=f"{store.name} answers (version {version})")
    return [finding for finding in found if finding is not None] or [answers]


def too_old(version: str) -> str | None:
    """Return the oldest version that can be used, if a server of MySQL or MariaDB is older.

    Example:
        >>> too_old("10.5.23-MariaDB"), too_old("8.0.36")
        ('MariaDB 10.6.0', None)
    """
    name = "MariaDB" if "MariaDB" in version else "MySQL"
    oldest = _OLDEST[name]
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    return None if numbers >= oldest else f"{name} {'.'.join(map(str, oldest))}"


def waiting_records(cursor: Any, *, relay: str) -> Finding | None:
    """Warn if no relay takes records in.

    Args:
        cursor: As for a SQL store.
        relay: The command that starts one.
    """
    cursor.execute(f"SELECT {now(cursor.db)} - min(created_at) FROM sessionsight_inbox")
    [waiting] = cursor.fetchone()
    if waiting is None or waiting <= _MAX_WAITING:
        return None
    message = f"has records that no relay has taken in for {waiting / 60:.0f} minutes, and grows without a bound"
    return Finding(level="warning", subject="spool", message=message, hint=f"run {relay}")


def old_transaction(cursor: Any) -> Finding | None:
    """Warn if PostgreSQL cannot remove the rows that relays have deleted."""
    if cursor.db.vendor != "postgresql":
        return None
    cursor.execute(
        "SELECT max(extract(epoch from clock_timestamp() - began)) FROM ("
        "SELECT xact_start AS began FROM pg_stat_activity"
        " WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND datname = current_database()"
        " UNION ALL SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()) AS transactions"
    )
    [oldest] = cursor.fetchone()
    if oldest is None or oldest <= _MAX_TRANSACTION:
        return None
    message = f"slows down: a transaction of {oldest / 60:.0f} minutes keeps PostgreSQL from removing deleted rows"
    hint = "end it: see pg_stat_activity and pg_prepared_xacts, and set idle_in_transaction_session_timeout"
    return Finding(level="warning", subject="spool", message=message, hint=hint)


def dead_rows(cursor: Any) -> Finding | None:
    """Warn if PostgreSQL does not remove the rows that relays have deleted, whatever prevents it."""
    if cursor.db.vendor != "postgresql":
        return None
    cursor.execute(
        "SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables"
        " WHERE relid IN (to_regclass('sessionsight_inbox'), to_regclass('sessionsight_queue'),"
        " to_regclass('sessionsight_count')) ORDER BY n_dead_tup DESC"
    )
    crowded = [(table, dead, live) for table, dead, live in cursor.fetchall() if dead > max(_MAX_DEAD_ROWS, 2 * live)]
    if not crowded:
        return None
    table, dead, live = crowded[0]
    message = (
        f"slows down: the table {table} has {dead:,} deleted rows that PostgreSQL has not removed, and {live:,} others"
    )
    hint = (
        f"run VACUUM {table}, and let autovacuum keep up: no old transaction or replication slot, "
        "autovacuum_vacuum_cost_delay = 0"
    )
    return Finding(level="warning", subject="spool", message=message, hint=hint)
