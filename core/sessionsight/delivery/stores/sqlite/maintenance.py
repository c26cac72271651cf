"""What keeps a spool's file small: checkpoints, old keys, old dead letters."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from pathlib import Path

from sessionsight.capture.records import DropReason
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from sessionsight.delivery.stores.sqlite.queries import count

__all__ = ["Maintenance"]

# A write-ahead log of this size is written back to the file; beyond the second, writers wait for it.
_CHECKPOINT_BYTES = 4 * 1024 * 1024
_RESTART_BYTES = 32 * 1024 * 1024
# Where there is little room, or none: so often, whatever its size.
_FULL_DISK_CHECKPOINT_EVERY = 1.0
_CLEAN_EVERY = 60.0
_PATIENCE = 1.0
# So many keys go in one transaction, for requests wait meanwhile.
_KEYS_AT_ONCE = 500


class Maintenance:
    """Done by a lane's thread, never while a request waits."""

    def __init__(self, file: SqliteConnection, options: DeliveryOptions) -> None:
        self._file = file
        self._options = options
        self._next_cleaning = 0.0
        self._next_full_disk_checkpoint = 0.0

    def checkpoint_if_needed(self, now: float) -> None:
        """Write the log back to the file before it is too large for that.

        That takes room, at most as much as the log itself; once all of it is done, the log begins anew where it is.
        So it is due before the log is larger than what the disk has left. On a disk that is full already it still
        helps where the file has pages to spare.

        Raises:
            StoreError: The file cannot be used.
        """
        try:
            size = Path(f"{self._file.path}-wal").stat().st_size
            room = _room_beside(self._file.path)
        except OSError:
            return
        if size >= room or self._file.is_full:
            if now >= self._next_full_disk_checkpoint:
                self._next_full_disk_checkpoint = now + _FULL_DISK_CHECKPOINT_EVERY
                self._file.checkpoint(restart=True)
        elif size >= _CHECKPOINT_BYTES:
            self._file.checkpoint(restart=size >= _RESTART_BYTES)

    def clean(self, now: float) -> None:
        """Forget what is old, if that is due.

        Raises:
            StoreError: The file cannot be used.
        """
        if now >= self._next_cleaning:
            self._next_cleaning = now + _CLEAN_EVERY
            while self._file.write(self._forget_keys, wait=_PATIENCE) == _KEYS_AT_ONCE:
                pass
            self._file.write(self._drop_letters, wait=_PATIENCE)

    def _forget_keys(self, connection: sqlite3.Connection) -> int:
        now = time.time()
        window = self._options.dedupe_window
        return connection.execute(
            "DELETE FROM keys WHERE (lane, scope) IN"
            " (SELECT lane, scope FROM keys WHERE since < ? OR since > ? LIMIT ?)",
            (now - window, now + window, _KEYS_AT_ONCE),
        ).rowcount

    def _drop_letters(self, connection: sqlite3.Connection) -> None:
        now = time.time()
        oldest = now - self._options.dead_letters_max_age
        old = connection.execute("SELECT lane, count(*) FROM dead WHERE died < ? GROUP BY lane", (oldest,)).fetchall()
        if old:
            connection.execute("DELETE FROM dead WHERE died < ?", (oldest,))
            count(connection, Counter({(lane, DropReason.DEAD_LETTERS_EXPIRED.value): number for lane, number in old}))


def _room_beside(path: str) -> int:
    """How many bytes the disk that a file is on has left."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
