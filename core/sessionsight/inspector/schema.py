"""The store's two tables: what they look like, and how values become rows and rows values."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from sessionsight.inspector.filters import Filter
from sessionsight.inspector.model import InspectedRecord, RecordedRequest

__all__ = ["condition", "insert_records", "insert_request", "prepare", "record", "request"]

_APPLICATION = 0x53536967  # what SQLite files call themselves by; a number of our own
_VERSION = 3
_TABLES = """
    DROP TABLE IF EXISTS requests;
    DROP TABLE IF EXISTS records;
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY AUTOINCREMENT, received_at REAL, method TEXT, path TEXT, query TEXT, headers TEXT,
        body BLOB, status INTEGER, reply BLOB, latency_ms REAL, vendor TEXT, fault TEXT, size INTEGER
    );
    CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT, request_id INTEGER, received_at REAL, occurred_at REAL,
        vendor TEXT, kind TEXT, name TEXT, side TEXT, accepted INTEGER, errors TEXT, warnings TEXT,
        session_id TEXT, window_id TEXT, visitor_id TEXT, user_id TEXT, amount REAL,
        properties TEXT, raw TEXT, page_url TEXT
    );
    -- An index ends with the id, so that a filter's newest records are read off without sorting.
    CREATE INDEX requests_by_vendor ON requests (vendor);
    CREATE INDEX requests_by_status ON requests (vendor, status);
    CREATE INDEX requests_by_size ON requests (id, size);
    CREATE INDEX records_by_request ON records (request_id);
    CREATE INDEX records_by_vendor ON records (vendor);
    CREATE INDEX records_by_name ON records (name);
    CREATE INDEX records_by_session ON records (session_id) WHERE session_id IS NOT NULL;
    CREATE INDEX records_by_visitor ON records (visitor_id) WHERE visitor_id IS NOT NULL;
    CREATE INDEX records_by_user ON records (user_id) WHERE user_id IS NOT NULL;
    CREATE INDEX records_by_refusal ON records (id) WHERE NOT accepted;
    CREATE INDEX records_by_time ON records (vendor, accepted, received_at);
    CREATE INDEX records_by_kind ON records (kind, vendor, accepted);
    CREATE INDEX records_of_goals ON records (name, occurred_at, amount, kind, accepted)
        WHERE kind = 'goal' AND accepted;
    CREATE INDEX records_of_servers ON records (occurred_at, visitor_id, user_id)
        WHERE side = 'server' AND vendor <> 'sessionsight';
    CREATE INDEX records_of_nobody ON records (occurred_at, session_id)
        WHERE vendor = 'sessionsight' AND visitor_id IS NULL AND session_id IS NOT NULL;
"""
_REQUEST = RecordedRequest.__struct_fields__[1:]
_RECORD = InspectedRecord.__struct_fields__[1:]
_AS_JSON = frozenset({"headers", "errors", "warnings", "properties", "raw"})
_EXACT = {"vendor": "vendor", "kind": "kind", "event": "name"} | {
    name: f"{name}_id" for name in ("session", "visitor", "user")
}


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables, in place of those of another version.

    Raises:
        sqlite3.DatabaseError: The file is not a database, or belongs to another program.
    """
    db.row_factory = sqlite3.Row
    ours = db.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION
    if not ours and db.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise sqlite3.DatabaseError("it is the database of another program")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        db.executescript(f"{_TABLES} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};")


def insert_request(db: sqlite3.Connection, received: RecordedRequest) -> tuple[int, int]:
    """Gives its id, and about how many bytes it takes, with its records."""
    row = [*_values(received, _REQUEST)]
    size = 500 + 2 * len(received.body) + len(received.reply) + len(row[_REQUEST.index("headers")])
    done = db.execute(_insert("requests", (*_REQUEST, "size")), (*row, size))
    return int(done.lastrowid or 0), size


def insert_records(
    db: sqlite3.Connection, request_id: int, records: Sequence[InspectedRecord]
) -> list[InspectedRecord]:
    """Gives the records with their ids."""
    if not records:
        return []
    last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()
    first = (last[0] if last else 0) + 1
    added = [replace(record, id=first + n, request_id=request_id) for n, record in enumerate(records)]
    db.executemany(_insert("records", ("id", *_RECORD)), [(record.id, *_values(record, _RECORD)) for record in added])
    return added


def request(row: sqlite3.Row) -> RecordedRequest:
    """The request of a row."""
    values = _read(row, RecordedRequest.__struct_fields__)
    return RecordedRequest(**{**values, "headers": [(name, value) for name, value in values["headers"]]})


def record(row: sqlite3.Row) -> InspectedRecord:
    """The record of a row."""
    values = _read(row, InspectedRecord.__struct_fields__)
    return InspectedRecord(**{**values, "accepted": bool(values["accepted"])})


def condition(wanted: Filter) -> tuple[str, list[Any]]:
    """A filter as SQL, and the values of its question marks."""
    parts: list[tuple[str, Any]] = [
        (f"{column} = ?", value) for name, column in _EXACT.items() if (value := getattr(wanted, name)) is not None
    ]
    if wanted.since is not None:
        parts.append(("received_at >= ?", wanted.since))
    if wanted.until is not None:
        parts.append(("received_at < ?", wanted.until))
    if wanted.after is not None:
        parts.append(("id > ?", wanted.after))
    if wanted.text is not None:
        parts.append(("instr(lower(raw), lower(?))", wanted.text))
    words = [word for word, _ in parts]
    if wanted.status is not None:
        words.append("accepted" if wanted.status == "accepted" else "NOT accepted")
    return " AND ".join(words) or "1", [value for _, value in parts]


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - ours


def _values(value: RecordedRequest | InspectedRecord, columns: Sequence[str]) -> list[Any]:
    return [
        msgspec.json.encode(getattr(value, name)).decode() if name in _AS_JSON else getattr(value, name)
        for name in columns
    ]


def _read(row: sqlite3.Row, columns: Sequence[str]) -> dict[str, Any]:
    return {name: msgspec.json.decode(row[name]) if name in _AS_JSON else row[name] for name in columns}
