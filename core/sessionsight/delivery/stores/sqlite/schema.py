"""The tables of a spool's file, and how a file of an older release becomes one of this.

`PRAGMA user_version` holds the schema's version. An upgrade is a list of statements, and is made in
the transaction that notices the need for it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from secrets import randbits

from sessionsight.delivery.stores.errors import ForeignDatabase, UnsupportedSchema

__all__ = ["APPLICATION_ID", "VERSION", "check_before_open", "is_foreign", "is_log_of_spool", "prepare"]

APPLICATION_ID = 0x53535350
"""Tells a spool from any other SQLite file: "SSSP"."""

_TABLES = (
    # The file's own facts: `base` is where its row ids begin, so that no other file's row is taken for one of its own.
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE lanes (lane INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # Each record once. `users` counts the rows of `queue` and `dead` that need it; the triggers keep it.
    "CREATE TABLE records (id INTEGER PRIMARY KEY, users INTEGER NOT NULL, body BLOB NOT NULL)",
    # What each lane has to send, in the order of sending. Owner 0 is nobody; rank 0 is goals.
    """CREATE TABLE queue (
        lane INTEGER NOT NULL, owner INTEGER NOT NULL, rank INTEGER NOT NULL, record INTEGER NOT NULL,
        size INTEGER NOT NULL, since REAL NOT NULL, sent INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (lane, owner, rank, record)
    ) WITHOUT ROWID""",
    """CREATE TABLE dead (
        id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, rank INTEGER NOT NULL, record INTEGER NOT NULL,
        size INTEGER NOT NULL, since REAL NOT NULL, died REAL NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        status INTEGER, attempts INTEGER NOT NULL, first_attempt REAL, last_attempt REAL
    )""",
    "CREATE INDEX dead_by_lane ON dead (lane)",
    """CREATE TABLE counts (
        lane INTEGER NOT NULL, what TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (lane, what)
    ) WITHOUT ROWID""",
    """CREATE TABLE keys (
        lane INTEGER NOT NULL, scope TEXT NOT NULL, since REAL NOT NULL, PRIMARY KEY (lane, scope)
    ) WITHOUT ROWID""",
    "CREATE INDEX keys_by_age ON keys (since)",
    "CREATE TABLE owners (owner INTEGER PRIMARY KEY, pid INTEGER NOT NULL, since REAL NOT NULL)",
    """CREATE TRIGGER queue_left AFTER DELETE ON queue BEGIN
        UPDATE records SET users = users - 1 WHERE id = old.record;
        DELETE FROM records WHERE id = old.record AND users <= 0;
    END""",
    """CREATE TRIGGER dead_joined AFTER INSERT ON dead BEGIN
        UPDATE records SET users = users + 1 WHERE id = new.record;
    END""",
    """CREATE TRIGGER dead_left AFTER DELETE ON dead BEGIN
        UPDATE records SET users = users - 1 WHERE id = old.record;
        DELETE FROM records WHERE id = old.record AND users <= 0;
    END""",
)

_UPGRADES: dict[int, tuple[str, ...]] = {
    # Version 2 remembered which files beside this one had been taken in.
    1: (),
    2: ("DROP TABLE IF EXISTS adopted",),
}
"""Version to the statements that lead from it to the next one."""

VERSION = 1 + len(_UPGRADES)


def check_before_open(path: str) -> None:
    """See whose database a file is before it is opened to be written, because even that may change it.

    Whoever opens somebody else's database may roll a transaction of theirs back, and whoever closes it may write
    their log back. This look writes nothing, and does not even open their log with SQLite, which would share its index.

    Raises:
        UnsupportedSchema: A newer release has made the file.
        ForeignDatabase: It is somebody else's database.
        sqlite3.Error: It cannot be told.
    """
    uri = Path(path).absolute().as_uri()
    with closing(sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, timeout=0)) as connection:
        # While the log is written back, and after a process was killed in the middle of that, the header tells of
        # pages that are in the log alone. SQLite calls that damaged here, unless this is on; nothing is written.
        connection.execute("PRAGMA writable_schema = ON")
        if _is_spool(connection):
            return
    if is_log_of_spool(path) is False:  # which may hold what the file itself does not hold yet
        raise ForeignDatabase("its log holds a database of something else")


def is_log_of_spool(path: str) -> bool | None:
    """Return whether the log beside a database makes it a spool, when the database itself is empty or gone.

    Returns:
        None if there is no log, or no complete page in it. A process that was killed in its first transaction
        leaves such a log, and SQLite ignores it.
    """
    # https://www.sqlite.org/fileformat.html#the_write_ahead_log
    try:
        with Path(f"{path}-wal").open("rb") as log:
            header = log.read(32)
            first = log.read(24 + 100)
    except OSError:
        return None
    if len(header) < 32 or len(first) < 124 or not any(first):
        return None
    # The pages of a transaction are in order, and the first one of a database writes page 1.
    page, image = int.from_bytes(first[:4], "big"), first[24:]
    return page == 1 and int.from_bytes(image[68:72], "big") == APPLICATION_ID


def prepare(connection: sqlite3.Connection) -> int:
    """Make the tables of a new file, or bring those of an older release up to date.

    Must be called within a transaction.

    Returns:
        Where the file's row ids begin.

    Raises:
        UnsupportedSchema: A newer release has made the file.
        ForeignDatabase: It is somebody else's database.
    """
    if _is_spool(connection):
        version = _pragma(connection, "user_version")
    else:
        for statement in _TABLES:
            connection.execute(statement)
        # 62 bits, of which the lower twenty are left to count with.
        connection.execute("INSERT INTO facts VALUES ('base', ?)", (randbits(42) << 20,))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        version = 1
    for older in range(version, VERSION):
        for statement in _UPGRADES[older]:
            connection.execute(statement)
    if _pragma(connection, "user_version") != VERSION:
        connection.execute(f"PRAGMA user_version = {VERSION}")
    (base,) = connection.execute("SELECT value FROM facts WHERE name = 'base'").fetchone()
    return int(base)


def is_foreign(path: str, *, was_spool: bool) -> bool:
    """Return whether a damaged file may be something else than a spool.

    Args:
        path: Of the file.
        was_spool: There is evidence besides its header. A header of zeros needs none: that is what a crash of the
            system leaves of a file that was being written.
    """
    # https://www.sqlite.org/fileformat.html#the_database_header
    try:
        with Path(path).open("rb") as file:
            header = file.read(100)
    except OSError:
        return True
    if header.startswith(b"SQLite format 3\0"):
        return int.from_bytes(header[68:72], "big") != APPLICATION_ID
    return any(header) and not was_spool


def _is_spool(connection: sqlite3.Connection) -> bool:
    """Whether a database is a spool by now; False for an empty one, which may become one.

    Raises:
        UnsupportedSchema: A newer release has made it.
        ForeignDatabase: It is somebody else's.
    """
    version = _pragma(connection, "user_version")
    if _pragma(connection, "application_id") == APPLICATION_ID:
        if version > VERSION:
            raise UnsupportedSchema(
                f"a newer release has made it (schema {version}, this one knows {VERSION}); update this app as well"
            )
        return True
    if version or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise ForeignDatabase("it is a database of something else")
    return False


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
