"""What has come of records, and is not in the file yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from sessionsight.delivery.stores.sqlite.connection import SqliteConnection

__all__ = ["PendingWrites"]


class PendingWrites:
    """Steps that are to be written, all together and in their order. Not locked: its queue is."""

    def __init__(self) -> None:
        self._steps: list[Callable[[sqlite3.Connection], None]] = []

    def owe(self, step: Callable[[sqlite3.Connection], None]) -> None:
        """Remember a step."""
        self._steps.append(step)

    def pay(self, file: SqliteConnection, *, wait: float) -> None:
        """Write down what is owed.

        Raises:
            StoreError: Nothing was written, and all of it is still owed.
        """
        if not self._steps:
            return
        broken: list[Exception] = []

        def work(connection: sqlite3.Connection) -> None:
            for step in self._steps:
                try:
                    step(connection)
                except sqlite3.Error:
                    raise
                except Exception as error:  # a fault of ours would come back for ever
                    broken.append(error)

        file.write(work, wait=wait)
        self._steps.clear()
        if broken:
            raise broken[0]
