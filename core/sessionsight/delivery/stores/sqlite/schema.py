"""The tables of a SQLite store, and the check that a database is one.

`PRAGMA application_id` distinguishes a store from other databases, and `PRAGMA user_version` holds the schema's
version.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from secrets import randbits

from sessionsight.delivery.stores.errors import ForeignDatabase, UnsupportedSchema

__all__ = ["APPLICATION_ID", "VERSION", "check_before_open", "ensure_schema"]

APPLICATION_ID = 0x53535350
""""SSSP"."""

VERSION = 4

_TABLES = (
    # The first row id of the file, so that a row id of another file is never one of this file.
    "CREATE TABLE epoch (first_id INTEGER NOT NULL)",
    # Each record is stored once. `refcount` is the number of rows of `queue` that refer to it.
    "CREATE TABLE records (id INTEGER PRIMARY KEY, refcount INTEGER NOT NULL, body BLOB NOT NULL)",
    # The records of each lane, in the order of sending: goals have priority 0. Unclaimed records have `claimed_by` 0.
    # `in_flight` is 2 for a suspect on trial.
    """CREATE TABLE queue (
        claimed_by INTEGER NOT NULL, lane TEXT NOT NULL, priority INTEGER NOT NULL, record INTEGER NOT NULL,
        size INTEGER NOT NULL, enqueued_at REAL NOT NULL, in_flight INTEGER NOT NULL DEFAULT 0, dedupe_key TEXT,
        takeovers INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (claimed_by, lane, priority, record)
    ) WITHOUT ROWID""",
    """CREATE TRIGGER queue_deleted AFTER DELETE ON queue BEGIN
        UPDATE records SET refcount = refcount - 1 WHERE id = old.record;
        DELETE FROM records WHERE id = old.record AND refcount <= 0;
    END""",
    """CREATE TABLE sessionsight_dead_letter (
        id INTEGER PRIMARY KEY, handle INTEGER NOT NULL, lane TEXT NOT NULL, priority INTEGER NOT NULL,
        size INTEGER NOT NULL, enqueued_at REAL NOT NULL, body BLOB NOT NULL, died_at REAL NOT NULL,
        reason TEXT NOT NULL, message TEXT NOT NULL, status INTEGER, attempts INTEGER NOT NULL, first_attempt REAL,
        last_attempt REAL
    )""",
    "CREATE INDEX dead_letters_by_lane ON sessionsight_dead_letter (lane)",
    """CREATE TABLE counts (
        lane TEXT NOT NULL, counter TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (lane, counter)
    ) WITHOUT ROWID""",
    """CREATE TABLE keys (
        lane TEXT NOT NULL, dedupe_key TEXT NOT NULL, seen_at REAL NOT NULL, PRIMARY KEY (lane, dedupe_key)
    ) WITHOUT ROWID""",
    "CREATE INDEX keys_by_age ON keys (seen_at)",
    "CREATE TABLE owners (owner INTEGER PRIMARY KEY)",
)


def check_before_open(path: str) -> None:
    """Check that a file is empty or a store before it is opened for writing, which could change another database.

    Opening another program's database may roll back its transaction, and closing it may checkpoint its log. This check
    writes nothing, and does not open the log with SQLite, which would create or change its index.

    Raises:
        UnsupportedSchema: Another release has created the store.
        ForeignDatabase: It is another program's database.
        sqlite3.Error: It cannot be read.
    """
    uri = Path(path).absolute().as_uri()
    with closing(sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, timeout=0)) as connection:
        # During a checkpoint, and after a process was killed in one, the header refers to pages that are in the log
        # alone. SQLite would report that as damage here, unless this is on; nothing is written.
        connection.execute("PRAGMA writable_schema = ON")
        if not _is_spool(connection) and _pragma(connection, "page_count"):
            raise ForeignDatabase("it is another program's database, whose tables are in its log")


def ensure_schema(connection: sqlite3.Connection) -> int:
    """Create the tables in a new file, and return the file's epoch.

    Must be called within a transaction.

    Raises:
        UnsupportedSchema: Another release has created the store.
        ForeignDatabase: It is another program's database.
    """
    if not _is_spool(connection):
        for statement in _TABLES:
            connection.execute(statement)
        # 62 bits, of which the lower twenty are the counter.
        connection.execute("INSERT INTO epoch VALUES (?)", (randbits(42) << 20,))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    (epoch,) = connection.execute("SELECT first_id FROM epoch").fetchone()
    return int(epoch)


def _is_spool(connection: sqlite3.Connection) -> bool:
    """Return whether a database is a store; False for an empty one, which may become one.

    Raises:
        UnsupportedSchema: Another release has created it.
        ForeignDatabase: It is another program's.
    """
    version = _pragma(connection, "user_version")
    if _pragma(connection, "application_id") == APPLICATION_ID:
        if version == VERSION:
            return True
        age, advice = (
            ("a newer", "update this app as well")
            if version > VERSION
            else ("an older", "deliver its records with that release, then delete it")
        )
        raise UnsupportedSchema(
            f"{age} release has created it (schema {version}, this release uses {VERSION}); {advice}"
        )
    if version or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise ForeignDatabase("it is another program's database")
    return False


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
