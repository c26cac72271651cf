"""Bounds the size of a SQLite store: eviction, checkpoints, and removal of old keys and dead letters."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from functools import partial
from pathlib import Path

from sessionsight.capture.records import DropReason
from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.base import DeadLetterQuery
from sessionsight.delivery.stores.sqlite import dead_letters
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from sessionsight.delivery.stores.sqlite.ledger import increment, used_bytes
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED
from sessionsight.delivery.stores.sqlite.queries import ready_lanes

__all__ = ["Maintenance", "checkpoint", "evict", "restart_log"]

# The size of the log from which it is checkpointed; from the second on, writers wait for that.
_CHECKPOINT_BYTES = 4 * 1024 * 1024
_RESTART_BYTES = 32 * 1024 * 1024
_PRUNE_EVERY = 60.0
_BUSY_TIMEOUT = 0.25
# The number of keys that one transaction deletes; requests wait for it.
_MAX_KEYS = 500
# The number of records that are evicted at once, and of such rounds in one transaction; requests wait for it.
_EVICT = 100
_MAX_ROUNDS = 10


class Maintenance:
    """Periodic work on the file."""

    def __init__(self, file: SqliteConnection, options: DeliveryOptions, clock: Clock) -> None:
        self._file = file
        self._options = options
        self._clock = clock
        self._next_prune = 0.0
        # A connection of its own, so that other threads can write during a checkpoint.
        self._checkpoints = SqliteConnection(file.path, synchronous=options.spool_synchronous, clock=clock)

    def checkpoint_if_needed(self) -> None:
        """Checkpoint the log before it is larger than the free space on the disk, which a checkpoint may need.

        After a complete checkpoint the log is overwritten from its start. On a full disk a checkpoint still helps if
        the file has free pages.

        Raises:
            StoreError: The file cannot be used.
        """
        try:
            log = Path(f"{self._file.path}-wal").stat().st_size
            space = _free_space(self._file.path)
        except OSError:
            return
        restart = log >= min(space, _RESTART_BYTES) or self._file.is_full
        if restart or log >= _CHECKPOINT_BYTES:
            try:
                self._checkpoints.read(restart_log if restart else checkpoint, timeout=_BUSY_TIMEOUT)
            finally:
                self._checkpoints.disconnect()

    def prune(self) -> None:
        """Delete old keys and old dead letters, if that is due.

        Raises:
            StoreError: The file cannot be used.
        """
        now = self._clock.monotonic()
        if now >= self._next_prune:
            self._next_prune = now + _PRUNE_EVERY
            while self._file.write(self._delete_keys, timeout=_BUSY_TIMEOUT) == _MAX_KEYS:
                pass
            expired = DeadLetterQuery(died_before=self._clock.time() - self._options.dead_letters_max_age)
            expire = partial(dead_letters.delete, query=expired, counter=DropReason.DEAD_LETTERS_EXPIRED.value)
            self._file.write(expire, timeout=_BUSY_TIMEOUT)

    def _delete_keys(self, connection: sqlite3.Connection) -> int:
        now = self._clock.time()
        window = self._options.dedupe_window
        return connection.execute(
            "DELETE FROM keys WHERE (lane, dedupe_key) IN"
            " (SELECT lane, dedupe_key FROM keys WHERE seen_at < ? OR seen_at > ? LIMIT ?)",
            (now - window, now + window, _MAX_KEYS),
        ).rowcount


def checkpoint(connection: sqlite3.Connection) -> None:
    """Move what is in the log to the database. This blocks no writer."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def restart_log(connection: sqlite3.Connection) -> None:
    """Checkpoint, and make sure that the log is overwritten from its start. Writers wait for the last part of it."""
    checkpoint(connection)
    connection.execute("PRAGMA busy_timeout = 500")
    connection.execute("PRAGMA wal_checkpoint(RESTART)")


def evict(connection: sqlite3.Connection, max_bytes: int) -> Counter[str]:
    """Drop records while the file is too large, dead letters and keys included, and return their number by lane.

    One transaction drops a thousand at most, and the next one goes on.
    """
    evicted: Counter[str] = Counter()
    for _ in range(_MAX_ROUNDS):
        if used_bytes(connection) <= max_bytes or not (oldest := _evict_oldest(connection)):
            break
        evicted += oldest
    increment(connection, {(lane, DropReason.QUEUE_FULL.value): number for lane, number in evicted.items()})
    return evicted


def _evict_oldest(connection: sqlite3.Connection) -> Counter[str]:
    """Drop the oldest unclaimed records, events before goals."""
    found = _oldest(connection, priority=1) or _oldest(connection, priority=0)
    rows = [(UNCLAIMED, lane, priority, record) for record, lane, priority, _ in found]
    connection.executemany("DELETE FROM queue WHERE claimed_by = ? AND lane = ? AND priority = ? AND record = ?", rows)
    # So that a repeated call is not a duplicate.
    keys = [(lane, key) for _, lane, _, key in found]
    connection.executemany("DELETE FROM keys WHERE lane = ? AND dedupe_key = ?", keys)
    return Counter(lane for _, lane, _, _ in found)


def _oldest(connection: sqlite3.Connection, *, priority: int) -> list[tuple[int, str, int, str | None]]:
    """Return the record, lane, priority and key of the oldest unclaimed rows of all lanes."""
    select = (
        "SELECT record, lane, priority, dedupe_key FROM queue"
        " WHERE claimed_by = ? AND lane = ? AND priority = ? ORDER BY record LIMIT ?"
    )
    lanes = ready_lanes(connection)
    return sorted(row for lane in lanes for row in connection.execute(select, (UNCLAIMED, lane, priority, _EVICT)))[
        :_EVICT
    ]


def _free_space(path: str) -> int:
    """Return the free bytes of the disk that a file is on."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
