"""A durable spool for processes whose records a relay delivers (`delivery="relay"`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sessionsight.delivery.queue.durable import DurableLaneQueue
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.stores.base import LaneBatch
from sessionsight.delivery.stores.errors import StoreError

__all__ = ["EnqueueOnlyQueue", "EnqueueOnlySpool"]

# Seconds between two checks that the store is still where it was.
_CHECK_EVERY = 2.0


class EnqueueOnlyQueue(DurableLaneQueue):
    """A lane's queue that leaves records in the store to a relay: only those in memory are pending here."""

    @property
    def pending(self) -> int:
        """The number of entries that could not be written to the store yet."""
        return self._in_memory

    def add_evicted(self, number: int) -> None:
        """Log that the store has evicted entries, because no dispatcher does."""
        self._spool.logger.log(
            logging.WARNING,
            f"{self.name}: the spool is full, {number} records were dropped; no relay is running, the vendor is down, "
            "or it is slower than the app",
            key=f"spool_full:{self.name}",
        )

    def depth(self) -> tuple[int, int, float | None]:
        """Return that nothing is ready to be sent."""
        return 0, 0, None

    def maintain(self) -> float:
        """Try to write what is in memory, and return when to call this again; never if nothing is left there."""
        due = super().maintain()
        return due if self.pending else float("inf")

    def join(self, deadline: float) -> bool:
        """Wait until everything is in the store, or until the deadline on the monotonic clock."""
        while self.pending:
            if not self._wait(deadline):
                return False
        return True


class EnqueueOnlySpool(DurableSpool):
    """A durable spool that only adds records. What it has in memory, it writes as soon as the store can be used."""

    queue_class = EnqueueOnlyQueue

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._next_check = 0.0

    def enqueue(self, batches: Sequence[LaneBatch]) -> Mapping[tuple[str, bytes], int] | None:
        """Add records, after a check of the store if that is due: no thread runs the periodic maintenance."""
        now = self.clock.monotonic()
        if now >= max(self._next_check, self._cool_down_until) and self._maintaining.acquire(blocking=False):
            self._next_check = now + _CHECK_EVERY
            try:
                self._check_store()
            except StoreError as error:
                self.retry_soon(error)
            finally:
                self._maintaining.release()
        return super().enqueue(batches)

    def _find_ready(self) -> None:
        """Leave what others have written to the relays. Some stores do work for the answer."""
