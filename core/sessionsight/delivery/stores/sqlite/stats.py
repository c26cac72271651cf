"""Queries for what a SQLite store contains, and for its counters."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.base import FALLBACK, lane_stats
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED

__all__ = [
    "FileStats",
    "count_unresolved",
    "file_stats",
    "has_ready",
    "lane_counts",
    "last_id",
    "owned_or_ready",
    "used_bytes",
]

_LANE = "(SELECT lane FROM lanes WHERE name = ?)"


def has_ready(connection: sqlite3.Connection, lane: str) -> bool:
    """Return whether a lane has records that no process has claimed."""
    found = connection.execute(
        f"SELECT 1 FROM queue WHERE lane = {_LANE} AND claimed_by = ? LIMIT 1",  # noqa: S608
        (lane, UNCLAIMED),
    )
    return found.fetchone() is not None


def last_id(connection: sqlite3.Connection) -> int | None:
    """Return the newest record's row id."""
    (row_id,) = connection.execute("SELECT max(id) FROM records").fetchone()
    return None if row_id is None else int(row_id)


def count_unresolved(connection: sqlite3.Connection, lane: str, owner: int, last: int | None) -> int:
    """Return the number of records that the owner or no process has claimed, up to a hundred.

    Args:
        connection: Of the file.
        lane: The lane's name.
        owner: The owner's id.
        last: Ignore records with a higher row id.
    """
    (number,) = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM queue WHERE lane = {_LANE} AND claimed_by IN (?, ?)"  # noqa: S608
        " AND (? IS NULL OR record <= ?) LIMIT 100)",
        (lane, UNCLAIMED, owner, last, last),
    ).fetchone()
    return int(number)


def owned_or_ready(connection: sqlite3.Connection, lane: str, owner: int, row_ids: Sequence[int]) -> set[int]:
    """Return those of the row ids that the owner or no process has claimed."""
    marks = ", ".join("?" * len(row_ids))
    found = connection.execute(
        f"SELECT record FROM queue WHERE lane = {_LANE} AND claimed_by IN (?, ?) AND record IN ({marks})",  # noqa: S608
        (lane, UNCLAIMED, owner, *row_ids),
    )
    return {row_id for (row_id,) in found}


def lane_counts(connection: sqlite3.Connection, lane: str) -> Counter[str]:
    """Return a lane's counters, with the number of pending records and of dead letters, in one statement."""
    return Counter(
        dict(
            connection.execute(
                f"SELECT counter, number FROM counts WHERE lane = {_LANE}"  # noqa: S608
                f" UNION ALL SELECT 'pending', count(*) FROM queue WHERE lane = {_LANE}"
                f" UNION ALL SELECT 'dead', count(*) FROM dead_letters WHERE lane = {_LANE}",
                (lane, lane, lane),
            ).fetchall()
        )
    )


class FileStats(Struct, frozen=True, kw_only=True):
    """The contents and the size of a store's file."""

    lanes: dict[str, LaneStats]
    oldest: float | None
    """When the oldest pending record was enqueued, in Unix seconds."""
    bypassed: int
    """Records that waited in memory because the file could not be written in time, delivered ones included."""
    used_bytes: int
    file_bytes: int
    owners: int
    """Processes that have claimed records, including those that have ended without releasing their claims."""
    schema: int


def file_stats(connection: sqlite3.Connection) -> FileStats:
    """Return the counters of all lanes, and the size of the file."""
    names = [name for (name,) in connection.execute("SELECT name FROM lanes ORDER BY name")]
    counts = {name: lane_counts(connection, name) for name in names}
    return FileStats(
        lanes={name: lane_stats(found, state="-", last_error=None) for name, found in counts.items()},
        oldest=_value(connection, "SELECT min(enqueued_at) FROM queue"),
        bypassed=sum(found[FALLBACK] for found in counts.values()),
        used_bytes=used_bytes(connection),
        file_bytes=_value(connection, "PRAGMA page_count") * _value(connection, "PRAGMA page_size"),
        owners=_value(connection, "SELECT count(*) FROM owners"),
        schema=_value(connection, "PRAGMA user_version"),
    )


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the size of the file without its free pages."""
    used = _value(connection, "PRAGMA page_count") - _value(connection, "PRAGMA freelist_count")
    return int(used * _value(connection, "PRAGMA page_size"))


def _value(connection: sqlite3.Connection, statement: str) -> Any:
    (value,) = connection.execute(statement).fetchone()
    return value
