"""What keeps a spool's file small: checkpoints, old keys, old dead letters."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from pathlib import Path

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.spool.sqlite.file import SpoolFile
from sessionsight.delivery.spool.sqlite.rows import count
from sessionsight.records import DropReason

__all__ = ["Upkeep"]

# A write-ahead log of this size is written back to the file; beyond the second, writers wait for it.
_CHECKPOINT_BYTES = 4 * 1024 * 1024
_RESTART_BYTES = 32 * 1024 * 1024
_CLEAN_EVERY = 60.0
_PATIENCE = 1.0
# So many keys go in one transaction, for requests wait meanwhile.
_KEYS_AT_ONCE = 500


class Upkeep:
    """Done by a lane's thread, never while a request waits."""

    def __init__(self, file: SpoolFile, options: DeliveryOptions) -> None:
        self._file = file
        self._options = options
        self._next_cleaning = 0.0

    def tend(self, now: float) -> None:
        """Do what is due.

        Raises:
            SpoolFault: The file cannot be used.
        """
        try:
            size = Path(f"{self._file.path}-wal").stat().st_size
        except OSError:
            size = 0
        if size >= _CHECKPOINT_BYTES:
            self._file.checkpoint(restart=size >= _RESTART_BYTES)
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
