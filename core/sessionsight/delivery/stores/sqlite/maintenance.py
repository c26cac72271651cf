"""Periodic work on the file of a SQLite store: checkpoints, and removal of old keys and dead letters."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from sessionsight.capture.records import DropReason
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.base import DeadLetterQuery
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from sessionsight.delivery.stores.sqlite.queries import dead_letters

__all__ = ["checkpoint", "checkpoint_if_needed", "prune"]

# The size of the log from which it is checkpointed; from the second on, writers wait for that.
_CHECKPOINT_BYTES = 4 * 1024 * 1024
_RESTART_BYTES = 32 * 1024 * 1024
_BUSY_TIMEOUT = 0.25
# The number of keys that one transaction deletes; requests wait for it.
_MAX_KEYS = 500


def checkpoint_if_needed(file: SqliteConnection) -> None:
    """Checkpoint the log, before it is larger than the free space on the disk, which a checkpoint may need.

    On a full disk a checkpoint still helps if the database has free pages.

    Raises:
        StoreError: The file cannot be used.
    """
    try:
        size, disk = Path(f"{file.path}-wal").stat().st_size, os.statvfs(file.path)
    except OSError:  # nothing was written yet
        return
    restart = size >= min(disk.f_bavail * disk.f_frsize, _RESTART_BYTES) or file.is_full
    if restart or size >= _CHECKPOINT_BYTES:
        checkpoint(file, restart=restart)


def checkpoint(file: SqliteConnection, *, restart: bool) -> None:
    """Move what is in the log to the database, on a connection of its own, so that other threads can write meanwhile.

    Args:
        file: The file.
        restart: Also make sure that the log is overwritten from its start. Writers wait for the last part of it.
    """
    with (
        closing(SqliteConnection(file.path, synchronous=file.synchronous, clock=file.clock)) as own,
        own.use("PRAGMA wal_checkpoint(PASSIVE)", _BUSY_TIMEOUT) as cursor,
    ):
        if restart:
            cursor.execute("PRAGMA busy_timeout = 500")
            cursor.execute("PRAGMA wal_checkpoint(RESTART)")


def prune(file: SqliteConnection, options: DeliveryOptions, *, now: float) -> None:
    """Delete old keys and old dead letters.

    Raises:
        StoreError: The file cannot be used.
    """
    window, deleted = options.dedupe_window, _MAX_KEYS
    while deleted == _MAX_KEYS:
        with file.write(_BUSY_TIMEOUT) as cursor:
            deleted = cursor.execute(
                "DELETE FROM keys WHERE (lane, dedupe_key) IN"
                " (SELECT lane, dedupe_key FROM keys WHERE seen_at < ? OR seen_at > ? LIMIT ?)",
                (now - window, now + window, _MAX_KEYS),
            ).rowcount
    expired = DeadLetterQuery(died_before=now - options.dead_letters_max_age)
    with file.write(_BUSY_TIMEOUT) as cursor:
        dead_letters.delete(cursor, expired, counter=DropReason.DEAD_LETTERS_EXPIRED.value)
