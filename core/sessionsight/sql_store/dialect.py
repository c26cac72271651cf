"""SQL that differs between databases, and the errors of their drivers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sessionsight.delivery.stores.sql_dead_letters import contains, locked, marks
from sessionsight.stores import AnswerLost, ForeignDatabase, StoreBusy, StoreError, StoreUnavailable

__all__ = [
    "UNCLAIMED",
    "commit_durably",
    "contains",
    "delete_rows",
    "ids",
    "ignore_conflicts",
    "insert_rows",
    "is_conflict",
    "locked",
    "marks",
    "now",
    "queue_by_id",
    "queue_in_order",
    "server_time",
    "skip_locked",
    "store_error",
]

# As long as an owner's id: a claim that makes rows longer splits the pages of MariaDB, which takes twice as long.
UNCLAIMED = "-" * 32
"""The owner of records that no process has claimed."""
_NOW = {
    "postgresql": "extract(epoch from clock_timestamp())::float8",
    "mysql": "(unix_timestamp() + microsecond(now(6)) / 1e6)",
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
}
_IGNORE = {"postgresql": "INSERT INTO", "mysql": "INSERT IGNORE INTO", "sqlite": "INSERT OR IGNORE INTO"}
# SQLSTATE codes of PostgreSQL, and error numbers of MySQL and MariaDB.
_CONFLICT = frozenset({"40001", "40P01", 1213})
_BUSY = _CONFLICT | {"55P03", 1205}
_NO_TABLE = frozenset({"42P01", "3F000", 1146})
_LOST = frozenset({2006, 2013, 2055, 4031})
_LOST_CLASSES = frozenset({"08", "57"})
_ROWS = 100  # of one INSERT


def commit_durably(cursor: Any) -> None:
    """Let PostgreSQL wait for its disk when this transaction is committed, also if its other changes need not."""
    if cursor.db.vendor == "postgresql":
        cursor.execute("SET LOCAL synchronous_commit TO DEFAULT")


def now(connection: Any) -> str:
    """Return the expression for the server's clock, in Unix seconds."""
    return _NOW[connection.vendor]


def server_time(cursor: Any) -> float:
    """Return the time by the server's clock, in Unix seconds."""
    cursor.execute(f"SELECT {now(cursor.db)}")
    return float(cursor.fetchone()[0])


def skip_locked(connection: Any) -> str:
    """Return the clause that locks the selected rows, without those that others have locked."""
    return "" if connection.vendor == "sqlite" else " FOR UPDATE SKIP LOCKED"  # SQLite has one writer at a time


def queue_in_order(connection: Any) -> str:
    """Return the table of queued records, to be read by lane, priority and id.

    Without a hint, MySQL and MariaDB prefer the primary key, and read the records of all lanes.
    """
    hint = " FORCE INDEX (sessionsight_queue_order)" if connection.vendor == "mysql" else ""
    return f"sessionsight_queue{hint}"


def queue_by_id(connection: Any) -> str:
    """Return the table of queued records, to lock some by id.

    Without a hint, MySQL and MariaDB read the whole of a small table, and wait for each row that is locked.
    """
    hint = " FORCE INDEX (PRIMARY)" if connection.vendor == "mysql" else ""
    return f"sessionsight_queue{hint}"


def ignore_conflicts(connection: Any, insert: str) -> str:
    """Return an `INSERT INTO …` that ignores rows which exist already."""
    suffix = " ON CONFLICT DO NOTHING" if connection.vendor == "postgresql" else ""
    return insert.replace("INSERT INTO", _IGNORE[connection.vendor], 1) + suffix


def insert_rows(cursor: Any, insert: str, rows: Sequence[Sequence[Any]]) -> None:
    """Execute an `INSERT INTO … VALUES (…)` for many rows.

    For PostgreSQL several rows become one statement. The drivers of the others do that by themselves.
    """
    if cursor.db.vendor != "postgresql":
        if rows:
            cursor.executemany(insert, rows)
        return
    head, _, values = insert.partition(" VALUES ")
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        cursor.execute(f"{head} VALUES {', '.join([values] * len(some))}", [value for row in some for value in row])


def ids(values: Iterable[int]) -> str:
    """Return a list of ids as SQL. As parameters they would take the drivers longer than the rest of a claim."""
    return ", ".join([str(int(value)) for value in values]) or "NULL"


def delete_rows(cursor: Any, table: str, found: Iterable[int]) -> None:
    """Delete rows by their id, without waiting for rows of other transactions.

    For `id IN (…)`, MySQL and MariaDB read the whole of a small table, and wait for each row that is locked.
    """
    if cursor.db.vendor == "mysql":
        selected = " UNION ALL ".join([f"SELECT {int(value)} AS id" for value in found])
        joined = f"STRAIGHT_JOIN {table} AS t FORCE INDEX (PRIMARY) ON t.id = found.id"
        cursor.execute(f"DELETE t FROM ({selected}) AS found {joined}")
    else:
        cursor.execute(f"DELETE FROM {table} WHERE id IN ({ids(found)})")


def is_conflict(cause: BaseException | None) -> bool:
    """Return whether a server has refused a statement because of another transaction, so that apps repeat theirs."""
    return not _CONFLICT.isdisjoint(_codes(cause))


def store_error(cause: BaseException | None, text: str, *, committing: bool, missing: str) -> StoreError:
    """Return an error of a driver as an error of a store.

    Args:
        cause: The driver's own exception.
        text: Its message.
        committing: The statement may have had its effect although the connection was lost.
        missing: The message if there are no tables.
    """
    state, code = _codes(cause)
    if not _NO_TABLE.isdisjoint((state, code)) or "no such table" in text:
        return ForeignDatabase(missing)
    if not _BUSY.isdisjoint((state, code)) or "is locked" in text:
        return StoreBusy(text)
    without_state = state is None and (hasattr(cause, "sqlstate") or hasattr(cause, "pgcode"))
    lost = without_state or code in _LOST or str(state)[:2] in _LOST_CLASSES
    return AnswerLost(text) if committing and lost else StoreUnavailable(text)


def _codes(cause: BaseException | None) -> tuple[Any, Any]:
    """Return the SQLSTATE of a driver's exception, and its error number."""
    arguments = getattr(cause, "args", ())
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # psycopg 3 or 2
    return state, arguments[0] if arguments else None
