"""Questions to a spool's tables: what waits, and what has become of everything."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED
from sessionsight.delivery.stores.sqlite.queries import CAPTURED, DELIVERED, FALLBACK
from sessionsight.delivery.stores.sqlite.quota import used_bytes

__all__ = ["FileStats", "counted", "last", "of_file", "of_lane", "still_ours", "together", "unsettled", "waits"]

_LANE = "(SELECT lane FROM lanes WHERE name = ?)"
_NOT_DROPPED = frozenset({FALLBACK, CAPTURED, DELIVERED, "pending", "dead"})


def waits(connection: sqlite3.Connection, lane: str) -> bool:
    """Whether there is anything that nobody has claimed."""
    found = connection.execute(f"SELECT 1 FROM queue WHERE lane = {_LANE} AND owner = ? LIMIT 1", (lane, UNCLAIMED))  # noqa: S608
    return found.fetchone() is not None


def last(connection: sqlite3.Connection) -> int | None:
    """The newest record's row id."""
    (row,) = connection.execute("SELECT max(id) FROM records").fetchone()
    return None if row is None else int(row)


def unsettled(connection: sqlite3.Connection, lane: str, owner: int, last: int | None) -> int:
    """How many records nobody has claimed, or this owner has; none newer than the last, and counted up to a hundred."""
    (number,) = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM queue WHERE lane = {_LANE} AND owner IN (?, ?)"  # noqa: S608
        " AND (? IS NULL OR record <= ?) LIMIT 100)",
        (lane, UNCLAIMED, owner, last, last),
    ).fetchone()
    return int(number)


def still_ours(connection: sqlite3.Connection, lane: str, owner: int, rows: Sequence[int]) -> set[int]:
    """Which of these records nobody has claimed in a lane, or this owner has."""
    marks = ", ".join("?" * len(rows))
    found = connection.execute(
        f"SELECT record FROM queue WHERE lane = {_LANE} AND owner IN (?, ?) AND record IN ({marks})",  # noqa: S608
        (lane, UNCLAIMED, owner, *rows),
    )
    return {row for (row,) in found}


def of_lane(connection: sqlite3.Connection, lane: str) -> Counter[str]:
    """The counts of a lane, all of one moment. What is pending or dead is counted where it is."""
    return Counter(
        dict(
            connection.execute(
                f"SELECT what, number FROM counts WHERE lane = {_LANE}"  # noqa: S608
                f" UNION ALL SELECT 'pending', count(*) FROM queue WHERE lane = {_LANE}"
                f" UNION ALL SELECT 'dead', count(*) FROM dead WHERE lane = {_LANE}",
                (lane, lane, lane),
            ).fetchall()
        )
    )


class FileStats(Struct, frozen=True, kw_only=True):
    """A spool's file at one moment."""

    lanes: dict[str, LaneStats]
    oldest: float | None
    """Since when the record waits that waits longest, in Unix seconds."""
    bypassed: int
    """Records that had to wait in memory, since the file could not be written in time, delivered ones included."""
    used_bytes: int
    file_bytes: int
    owners: int
    """Processes that have claimed records, or have died having done so."""
    schema: int


def of_file(connection: sqlite3.Connection) -> FileStats:
    """All ledgers, and how full the file is."""
    names = [name for (name,) in connection.execute("SELECT name FROM lanes ORDER BY name")]
    stored = {name: of_lane(connection, name) for name in names}
    return FileStats(
        lanes={name: _stats(counts, state="-", last_error=None) for name, counts in stored.items()},
        oldest=_value(connection, "SELECT min(since) FROM queue"),
        bypassed=sum(counts[FALLBACK] for counts in stored.values()),
        used_bytes=used_bytes(connection),
        file_bytes=_value(connection, "PRAGMA page_count") * _value(connection, "PRAGMA page_size"),
        owners=_value(connection, "SELECT count(*) FROM owners"),
        schema=_value(connection, "PRAGMA user_version"),
    )


def _value(connection: sqlite3.Connection, question: str) -> Any:
    (value,) = connection.execute(question).fetchone()
    return value


def _stats(stored: Counter[str], *, state: str, last_error: str | None) -> LaneStats:
    return LaneStats(
        captured=stored[CAPTURED],
        delivered=stored[DELIVERED],
        pending=stored["pending"],
        dead=stored["dead"],
        dropped={what: number for what, number in stored.items() if what not in _NOT_DROPPED},
        state=state,
        last_error=last_error,
    )


def counted(stats: LaneStats) -> Counter[str]:
    """A ledger as counts."""
    numbers = {CAPTURED: stats.captured, DELIVERED: stats.delivered, "pending": stats.pending, "dead": stats.dead}
    return Counter({**numbers, **stats.dropped})


def together(memory: LaneStats, stored: Counter[str], *, last_error: str | None) -> LaneStats:
    """The ledger of what is in memory, and that of the file, as one."""
    dropped = Counter(memory.dropped)
    dropped.update({what: number for what, number in stored.items() if what not in _NOT_DROPPED})
    return LaneStats(
        captured=memory.captured + stored[CAPTURED],
        delivered=memory.delivered + stored[DELIVERED],
        pending=memory.pending + stored["pending"],
        dead=memory.dead + stored["dead"],
        dropped=dict(dropped),
        state=memory.state,
        last_error=last_error,
    )
