"""A store in a SQLite file that all processes of a host share."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.base import (
    Claim,
    Claimed,
    Counts,
    DeadLetterQuery,
    Enqueued,
    Failure,
    NewRecord,
    Outcome,
    StoredDeadLetter,
    StoredRecord,
    StoreStats,
)
from sessionsight.delivery.stores.errors import StoreError, StoreUnavailable
from sessionsight.delivery.stores.sqlite import dead_letters, ledger, queries
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from sessionsight.delivery.stores.sqlite.maintenance import Maintenance, evict
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED, OwnerLock
from sessionsight.log import ThrottledLogger

__all__ = ["SqliteStore"]

T = TypeVar("T")

# The number of writes that are remembered by their id. Only this process repeats them, and soon.
_BATCH_IDS = 100


class SqliteStore:
    """A `Store` in a SQLite file.

    Args:
        path: The file, created by the first call that needs it. Its folder must exist.
        options: Bounds and time limits.
        logger: For moved and deleted files.
        clock: The time of maintenance and ages.
        timeout: Seconds for which calls without a timeout of their own may wait for other writers.
    """

    joins = False

    def __init__(
        self,
        path: str,
        options: DeliveryOptions,
        logger: ThrottledLogger,
        *,
        clock: Clock = time,
        timeout: float = 1.0,
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self.name = path
        self.file = SqliteConnection(path, synchronous=options.spool_synchronous, clock=clock)
        self._options = options
        self._logger = logger
        self._batches: OrderedDict[bytes, Enqueued] = OrderedDict()
        self._owner_lock: OwnerLock | None = None
        self._acquiring = threading.RLock()
        self._maintenance = Maintenance(self.file, options, clock)
        self._closed = False

    @property
    def epoch(self) -> int:
        """The first row id of the open file; 0 before one is open."""
        return self.file.epoch

    @property
    def owner_id(self) -> int:
        """The id under which this process claims rows; `UNCLAIMED` before it has claimed any."""
        return UNCLAIMED if self._owner_lock is None else self._owner_lock.id

    def enqueue(self, records: Sequence[NewRecord], counts: Counts, *, batch_id: bytes, timeout: float) -> Enqueued:
        """Add records to their lanes and add to the counters, in one transaction."""
        if (done := self._batches.get(batch_id)) is not None:
            return done
        enqueued = self._batches[batch_id] = self.file.write(
            lambda connection: Enqueued(
                self._enqueue(connection, records, counts), evict(connection, self._options.spool_bytes)
            ),
            timeout=timeout,
        )
        while len(self._batches) > _BATCH_IDS:
            self._batches.popitem(last=False)
        return enqueued

    def claim(self, lane: str, *, max_records: int, max_bytes: int, timeout: float) -> Claimed:
        """Claim a lane's next rows, by priority."""
        epoch, (claims, more) = self._write_as_owner(
            lambda connection, owner: queries.claim(
                connection, lane, owner, max_records=max_records, max_bytes=max_bytes
            ),
            timeout,
        )
        return Claimed(epoch, claims, more)

    def claimed(self, lane: str) -> Claimed:
        """Return the rows that this process has claimed and that are not in flight."""
        epoch, claims = self._write_as_owner(
            lambda connection, owner: queries.claimed(connection, lane, owner), self._timeout
        )
        return Claimed(epoch, claims, more=True)

    def mark_in_flight(self, lane: str, handles: Sequence[int], *, timeout: float) -> tuple[int, set[int]]:
        """Set the in-flight flag of the rows that this process still holds."""
        return self._write_as_owner(
            lambda connection, owner: queries.mark_in_flight(connection, lane, owner, handles), timeout
        )

    def settle(self, lane: str, outcomes: Sequence[Outcome], *, timeout: float) -> None:
        """Apply outcomes in one transaction."""
        keep, now = self._options.dead_letters, self._clock.time()

        def work(connection: sqlite3.Connection) -> None:
            for outcome in outcomes:
                queries.settle(connection, lane, self.owner_id, outcome, keep=keep, now=now)

        self.file.write(work, timeout=timeout)

    def ready(self) -> list[str]:
        """Return the lanes that have unclaimed rows."""
        return self._read(queries.ready_lanes)

    def last_handle(self) -> int | None:
        """Return the newest record's row id."""
        return self._read(queries.last_id)

    def count_unresolved(self, lane: str, *, last: int | None = None) -> int:
        """Return the number of records that this process or no process has claimed, up to a hundred."""
        # The owner is read within the step: another thread may acquire it, and claim rows, until then.
        return self._read(lambda connection: queries.count_unresolved(connection, lane, self.owner_id, last))

    def owned_or_ready(self, lane: str, handles: Sequence[int], *, timeout: float) -> set[int]:
        """Return those of the row ids that this process or no process has claimed."""
        return self.file.read(
            lambda connection: queries.owned_or_ready(connection, lane, self.owner_id, handles), timeout=timeout
        )

    def search(self, lane: str, fragment: bytes) -> list[StoredRecord]:
        """Return the queued records whose body contains these bytes."""
        return self._read(partial(queries.search, lane=lane, fragment=fragment))

    def discard(self, lane: str, handles: Sequence[int], *, counter: str) -> int:
        """Drop unclaimed records."""
        return self._write(partial(queries.discard, lane=lane, handles=handles, counter=counter))

    def counts(self, lane: str) -> Counter[str]:
        """Return the lane's counters."""
        return self._read(partial(ledger.lane_counts, lane=lane))

    def find(self, query: DeadLetterQuery, *, limit: int = -1) -> list[StoredDeadLetter]:
        """Return the selected dead letters, oldest first."""
        return self._read(partial(dead_letters.find, query=query, limit=limit))

    def requeue(self, query: DeadLetterQuery) -> int:
        """Queue the selected dead letters again."""

        def work(connection: sqlite3.Connection) -> int:
            return len(self._enqueue(connection, dead_letters.take(connection, query, now=self._clock.time()), {}))

        return self._write(work)

    def delete(self, query: DeadLetterQuery, *, counter: str) -> int:
        """Delete the selected dead letters, and count them as dropped."""
        return self._write(partial(dead_letters.delete, query=query, counter=counter))

    def stats(self) -> StoreStats:
        """Return the counters of all lanes, and the size of the file."""
        return self._read(ledger.file_stats)

    def check(self) -> Mapping[str, Sequence[Claim]]:
        """If the file was moved or deleted, take its ready records out of it, so that a new file is created."""
        if self.file.is_same_file():
            return {}
        found: dict[str, list[Claim]] = {}
        with contextlib.suppress(StoreError):
            if self.file.is_open:
                found = self._write(lambda connection: queries.drain_unclaimed(connection, self.owner_id))
        self._logger.log(
            logging.ERROR,
            f"spool {self.name}: the file was moved or deleted; a new one is started with the records that were "
            "waiting in it",
            key="gone",
        )
        self.file.disconnect()
        self.file.epoch = 0
        return found

    def recover(self, in_flight: Failure | None, poison: Failure) -> tuple[int, int]:
        """Recover the claims of processes that have ended, which their lock shows."""
        lock = self._acquire_owner()
        lock.renew()
        abandoned = [owner for owner in self._read(queries.owners) if not lock.is_alive(owner)]
        if not abandoned:
            return 0, 0
        keep, now = self._options.dead_letters, self._clock.time()
        return self._write(
            lambda connection: queries.recover_abandoned(connection, abandoned, in_flight, poison, keep=keep, now=now)
        )

    def maintain(self) -> None:
        """Checkpoint the log, and delete old keys and dead letters."""
        try:
            self._maintenance.checkpoint_if_needed()
        finally:
            self._maintenance.prune()

    def close(self) -> None:
        """Release this process's claims that are not in flight, and close the file."""
        with self._acquiring:
            self._closed = True
            lock, self._owner_lock = self._owner_lock, None
        if lock is not None:
            with contextlib.suppress(StoreError):  # other processes see that the lock is free
                self._write(partial(queries.release_owner, owner=lock.id))
            lock.release()
        self.file.close()

    def _acquire_owner(self) -> OwnerLock:
        """Return this process's lock, and acquire it first if need be.

        Raises:
            StoreError: The file cannot be used, or no lock file can be created beside it.
        """
        with self._acquiring:
            if self._closed:
                raise StoreUnavailable("the spool is closed")
            if self._owner_lock is None:
                self._read(lambda _: None)  # no lock file is created beside another program's database
                self._owner_lock = OwnerLock(self.file.path)
            return self._owner_lock

    def _enqueue(
        self, connection: sqlite3.Connection, records: Sequence[NewRecord], counts: Counts
    ) -> list[dict[str, int]]:
        now = self._clock.time()
        return queries.enqueue(connection, records, counts, epoch=self.epoch, options=self._options, now=now)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self.file.read(work, timeout=self._timeout)

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self.file.write(work, timeout=self._timeout)

    def _write_as_owner(self, work: Callable[[sqlite3.Connection, int], T], timeout: float) -> tuple[int, T]:
        """Run a step for this owner, and return the epoch in which it was run, and its result."""
        owner = self._acquire_owner().id
        return self.file.write(lambda connection: (self.epoch, work(connection, owner)), timeout=timeout)
