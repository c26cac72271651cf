"""The counters of a SQLite store, and its size."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any

from sessionsight.delivery.stores.base import FALLBACK, Counts, StoreStats, lane_stats

__all__ = ["file_stats", "increment", "lane_counts", "used_bytes"]


def increment(connection: sqlite3.Connection, counts: Counts) -> None:
    """Add to the counters of lanes."""
    connection.executemany(
        "INSERT INTO counts VALUES (?, ?, ?)"
        " ON CONFLICT (lane, counter) DO UPDATE SET number = number + excluded.number",
        [(lane, counter, number) for (lane, counter), number in counts.items() if number],
    )


def lane_counts(connection: sqlite3.Connection, lane: str) -> Counter[str]:
    """Return a lane's counters, with the number of pending records and of dead letters, in one statement."""
    return Counter(
        dict(
            connection.execute(
                "SELECT counter, number FROM counts WHERE lane = :lane"
                " UNION ALL SELECT 'pending', count(*) FROM queue"
                " WHERE claimed_by IN (SELECT 0 UNION ALL SELECT owner FROM owners) AND lane = :lane"
                " UNION ALL SELECT 'dead', count(*) FROM dead_letters WHERE lane = :lane",
                {"lane": lane},
            ).fetchall()
        )
    )


def file_stats(connection: sqlite3.Connection) -> StoreStats:
    """Return the counters of all lanes, and the size of the file."""
    lanes = connection.execute("SELECT DISTINCT lane FROM counts ORDER BY lane").fetchall()
    counts = {lane: lane_counts(connection, lane) for (lane,) in lanes}
    claimed = connection.execute(
        "SELECT lane, count(*) FROM queue WHERE claimed_by IN (SELECT owner FROM owners) GROUP BY lane"
    )
    return StoreStats(
        lanes={lane: lane_stats(found, state="-", last_error=None) for lane, found in counts.items()},
        claimed=dict(claimed.fetchall()),
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
