"""Queries of one lane of a process to the spool's file."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sessionsight.delivery.queue.base import DeadLetter
from sessionsight.delivery.stores.errors import ForeignDatabase, StoreError
from sessionsight.delivery.stores.sqlite import dead_letters, stats

if TYPE_CHECKING:
    from sessionsight.delivery.stores.sqlite.store import SqliteSpool

__all__ = ["LaneReader"]

T = TypeVar("T")

_PATIENCE = 1.0


class LaneReader:
    """Reads what the file has for one lane. Where the file is not a spool, it has nothing.

    Each method raises `StoreError` when the file cannot be read, after that was reported.
    """

    def __init__(self, lane: str, spool: SqliteSpool) -> None:
        self._lane = lane
        self._spool = spool

    def has_unclaimed(self) -> bool:
        """Return whether there is anything that nobody has claimed."""
        return self._read(partial(stats.waits, lane=self._lane), none=False)

    def last_row(self) -> int | None:
        """Return the newest record's row id."""
        return self._read(stats.last, none=None)

    def unsettled(self, last: int | None = None) -> int:
        """Return how many records nobody or this process has claimed, counted up to a hundred.

        Args:
            last: Count none with a higher row id.
        """
        owner = self._spool.owner_id
        return self._read(partial(stats.unsettled, lane=self._lane, owner=owner, last=last), none=0)

    def counts(self) -> Counter[str]:
        """Return the lane's ledger."""
        return self._read(partial(stats.of_lane, lane=self._lane), none=Counter())

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters, oldest first."""
        return self._read(partial(dead_letters.of_lane, lane=self._lane), none=[])

    def _read(self, work: Callable[[sqlite3.Connection], T], *, none: T) -> T:
        try:
            return self._spool.file.read(work, wait=_PATIENCE)
        except StoreError as fault:
            self._spool.report(fault)
            if isinstance(fault, ForeignDatabase):
                return none
            raise
