"""How much of the disk a spool may take; when it is too much, events go before goals, oldest first."""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter

from sessionsight.capture.records import DropReason
from sessionsight.delivery.queue.codec import decode_entry
from sessionsight.delivery.queue.dedupe import dedupe_key
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED
from sessionsight.delivery.stores.sqlite.queries import count

__all__ = ["Quota", "used_bytes"]

# The file is measured each time that this process has written so much.
_MEASURE_EVERY = 64 * 1024
# So many go at a time, and no more rounds than this while a request waits.
_ROUND = 100
_MAX_ROUNDS = 10


def used_bytes(connection: sqlite3.Connection) -> int:
    """How much of the file is in use."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


class Quota:
    """The bound on a file's size, its dead letters and keys included."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._measure_every = min(_MEASURE_EVERY, max_bytes // 16)
        self._unmeasured = self._measure_every  # by whoever came before

    def hold(self, connection: sqlite3.Connection, entered: int) -> Counter[str]:
        """Make room, if need be, after so many bytes were entered in the same transaction.

        Returns:
            How many records each lane has lost by that.
        """
        lost: Counter[str] = Counter()
        self._unmeasured += entered
        if self._unmeasured < self._measure_every:
            return lost
        self._unmeasured = 0
        for _ in range(_MAX_ROUNDS):
            if used_bytes(connection) <= self._max_bytes:
                break
            gone = _evict(connection)
            if not gone:
                break
            lost += gone
        else:
            self._unmeasured = self._measure_every  # go on with the next request
        return lost


def _evict(connection: sqlite3.Connection) -> Counter[str]:
    """Drop the oldest records that nobody has claimed, events first."""
    lanes = dict(connection.execute("SELECT lane, name FROM lanes"))
    for rank in (1, 0):
        oldest = heapq.merge(
            *(
                connection.execute(
                    "SELECT record, lane FROM queue WHERE lane = ? AND owner = ? AND rank = ? ORDER BY record LIMIT ?",
                    (lane, UNCLAIMED, rank, _ROUND),
                ).fetchall()
                for lane in lanes
            )
        )
        gone = [(lane, UNCLAIMED, rank, record) for (record, lane), _ in zip(oldest, range(_ROUND), strict=False)]
        if gone:
            break
    else:
        return Counter()
    for lane, _, _, record in gone:
        _release_key(connection, lane, record)
    connection.executemany("DELETE FROM queue WHERE lane = ? AND owner = ? AND rank = ? AND record = ?", gone)
    lost = Counter(lane for lane, _, _, _ in gone)
    count(connection, Counter({(lane, DropReason.QUEUE_FULL.value): number for lane, number in lost.items()}))
    return Counter({lanes[lane]: number for lane, number in lost.items()})


def _release_key(connection: sqlite3.Connection, lane: int, record: int) -> None:
    """Forget the key of a record that is lost, so that a repeated call may succeed it."""
    (body,) = connection.execute("SELECT body FROM records WHERE id = ?", (record,)).fetchone()
    try:
        entry = decode_entry(body, since=0.0, row=record)
    except Exception:
        return  # it has no key that anybody could know
    if entry.record.key is not None:
        connection.execute("DELETE FROM keys WHERE lane = ? AND scope = ?", (lane, dedupe_key(entry)))
