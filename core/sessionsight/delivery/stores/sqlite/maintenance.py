"""Periodic work on the file of a SQLite store: checkpoints, and removal of old keys and dead letters."""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from pathlib import Path

from sessionsight.capture.records import DropReason
from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.base import DeadLetterQuery
from sessionsight.delivery.stores.sqlite import dead_letters
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection

__all__ = ["Maintenance", "checkpoint"]

# The size of the log from which it is checkpointed; from the second on, writers wait for that.
_CHECKPOINT_BYTES = 4 * 1024 * 1024
_RESTART_BYTES = 32 * 1024 * 1024
_PRUNE_EVERY = 60.0
_BUSY_TIMEOUT = 0.25
# The number of keys that one transaction deletes; requests wait for it.
_MAX_KEYS = 500


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
        """Checkpoint the log, before it is larger than the free space on the disk, which a checkpoint may need.

        On a full disk a checkpoint still helps if the database has free pages.

        Raises:
            StoreError: The file cannot be used.
        """
        try:
            size, disk = Path(f"{self._file.path}-wal").stat().st_size, os.statvfs(self._file.path)
        except OSError:  # nothing was written yet
            return
        restart = size >= min(disk.f_bavail * disk.f_frsize, _RESTART_BYTES) or self._file.is_full
        if restart or size >= _CHECKPOINT_BYTES:
            try:
                self._checkpoints.read(partial(checkpoint, restart=restart), timeout=_BUSY_TIMEOUT)
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
        now, window = self._clock.time(), self._options.dedupe_window
        return connection.execute(
            "DELETE FROM keys WHERE (lane, dedupe_key) IN"
            " (SELECT lane, dedupe_key FROM keys WHERE seen_at < ? OR seen_at > ? LIMIT ?)",
            (now - window, now + window, _MAX_KEYS),
        ).rowcount


def checkpoint(connection: sqlite3.Connection, *, restart: bool = False) -> None:
    """Move what is in the log to the database. This blocks no writer.

    Args:
        connection: Outside a transaction.
        restart: Also make sure that the log is overwritten from its start. Writers wait for the last part of it.
    """
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    if restart:
        connection.execute("PRAGMA busy_timeout = 500")
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
