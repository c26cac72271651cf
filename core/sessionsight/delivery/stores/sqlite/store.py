"""A store in a SQLite file that all processes of a host share."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from secrets import randbits
from typing import Any

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
    StoreStats,
    complete_counts,
    store_stats,
)
from sessionsight.delivery.stores.errors import StoreError, StoreUnavailable
from sessionsight.delivery.stores.sql_dead_letters import marks
from sessionsight.delivery.stores.sqlite import maintenance, owner_lock, queries
from sessionsight.delivery.stores.sqlite.connection import Cursor, SqliteConnection
from sessionsight.delivery.stores.sqlite.owner_lock import OwnerLock
from sessionsight.delivery.stores.sqlite.queries import JOINED, READY_LANES, ROW, UNCLAIMED, dead_letters
from sessionsight.log import ThrottledLogger

__all__ = ["SqliteStore"]

_PRUNE_EVERY = 60.0
# Pending records that are counted one by one; a relay reads the counters of each lane once a second.
_MAX_COUNTED = 10_000
# The ends of the row ids that the process or no process has claimed: a look-up each.
_ENDS = " UNION ALL ".join(
    f"SELECT {end}(record) FROM queue WHERE claimed_by = {owner} AND lane = :lane AND priority = {priority}"
    for end in ("min", "max")
    for owner in (UNCLAIMED, ":owner")
    for priority in (0, 1)
)
# Those of records and dead letters included. The inner query makes this use the index.
_COUNTS = """
    SELECT counter, number FROM counts WHERE lane = :lane
    UNION ALL SELECT 'pending', count(*) FROM (SELECT 1 FROM queue
        WHERE claimed_by IN (SELECT 0 UNION ALL SELECT owner FROM owners) AND lane = :lane LIMIT :most)
    UNION ALL SELECT 'dead', count(*) FROM sessionsight_dead_letter WHERE lane = :lane"""


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
        self.owner_id = randbits(48) + 1
        """The id under which this process claims rows."""
        self._acquiring = threading.RLock()
        self._next_prune = 0.0
        self._closed = False

    @property
    def epoch(self) -> int:
        """The first row id of the open file; 0 before one is open."""
        return self.file.epoch

    def enqueue(self, records: Sequence[NewRecord], counts: Counts, *, batch_id: bytes, timeout: float) -> Enqueued:
        """Add records to their lanes and add to the counters, in one transaction, whose result is always known."""
        with self.file.write(timeout) as cursor:
            handles = self._enqueue(cursor, records, counts)
            return Enqueued(handles, queries.evict(cursor, self._options.spool_bytes))

    def claim(self, lane: str, *, max_records: int, max_bytes: int, timeout: float) -> Claimed:
        """Claim a lane's next rows, by priority."""
        self._acquire_owner()
        with self.file.write(timeout) as cursor:
            found = queries.claim(cursor, lane, self.owner_id, max_records=max_records, max_bytes=max_bytes)
            return Claimed(self.epoch, *found)

    def claimed(self, lane: str) -> Claimed:
        """Return the rows that this process has claimed and that are not in flight."""
        claims = self._queued("lane = ? AND claimed_by = ? AND in_flight <> 1", lane, self.owner_id)
        return Claimed(self.epoch, claims, more=True)

    def mark_in_flight(self, lane: str, handles: Sequence[int], *, timeout: float) -> tuple[int, set[int]]:
        """Set the in-flight flag of the rows that this process still holds."""
        update = f"UPDATE queue SET in_flight = 1 WHERE {ROW}"
        with self.file.write(timeout) as cursor:
            rows = ((handle, (self.owner_id, lane, handle)) for handle in handles)
            return self.epoch, {handle for handle, row in rows if cursor.execute(update, row).rowcount}

    def settle(self, lane: str, outcomes: Sequence[Outcome], *, timeout: float) -> None:
        """Apply outcomes in one transaction."""
        with self.file.write(timeout) as cursor:
            now = self._clock.time()
            queries.settle(cursor, lane, self.owner_id, outcomes, options=self._options, now=now)

    def ready(self) -> list[str]:
        """Return the lanes that have unclaimed rows."""
        return [lane for (lane,) in self._rows(READY_LANES)]

    def unresolved(self, lane: str) -> tuple[int, int] | None:
        """Return the lowest and the highest row id that this process or no process has claimed."""
        rows = self._rows(_ENDS, {"owner": self.owner_id, "lane": lane})
        found = [handle for (handle,) in rows if handle is not None]
        return (min(found), max(found)) if found else None

    def owned_or_ready(self, lane: str, handles: Sequence[int], *, timeout: float) -> set[int]:
        """Return those of the row ids that this process or no process has claimed."""
        select = f"SELECT record FROM queue WHERE claimed_by IN (?, ?) AND lane = ? AND record IN ({marks(handles)})"
        found = self._rows(select, (UNCLAIMED, self.owner_id, lane, *handles), timeout=timeout)
        return {handle for (handle,) in found}

    def search(self, lane: str, fragment: bytes) -> list[Claim]:
        """Return the queued records whose body contains these bytes. They have no index, so all are read."""
        return self._queued("lane = ? AND instr(body, ?)", lane, fragment)

    def discard(self, lane: str, handles: Sequence[int], *, counter: str) -> int:
        """Drop unclaimed records."""
        with self._write() as cursor:
            outcomes = [Outcome(handles=handles, counter=counter)]
            return queries.settle(cursor, lane, UNCLAIMED, outcomes, options=self._options, now=self._clock.time())

    def counts(self, lane: str) -> Counter[str]:
        """Return the lane's counters."""
        return self._counts(lane, most=_MAX_COUNTED)

    def _counts(self, lane: str, *, most: int) -> Counter[str]:
        """Return counters, for which pending records are counted up to `most`."""
        return complete_counts(Counter(dict(self._rows(_COUNTS, {"lane": lane, "most": most}))), most)

    def find(self, query: DeadLetterQuery, *, limit: int = -1) -> list[StoredDeadLetter]:
        """Return the selected dead letters, oldest first."""
        with self.file.read(self._timeout) as cursor:
            return dead_letters.find(cursor, query, limit)

    def requeue(self, query: DeadLetterQuery) -> int:
        """Queue the selected dead letters again."""
        with self._write() as cursor:
            records = dead_letters.take(cursor, query, enqueued_at=self._clock.time())
            return len(self._enqueue(cursor, records, {}))

    def delete(self, query: DeadLetterQuery, *, counter: str) -> int:
        """Delete the selected dead letters, and count them as dropped."""
        with self._write() as cursor:
            return dead_letters.delete(cursor, query, counter=counter)

    def stats(self) -> StoreStats:
        """Return the counters of all lanes, and the size of the file."""
        lanes = self._rows("SELECT DISTINCT lane FROM counts")
        held = "claimed_by IN (SELECT owner FROM owners)"
        [(oldest, owners, file_bytes, used_bytes, schema)] = self._rows(
            "SELECT (SELECT min(enqueued_at) FROM queue), (SELECT count(*) FROM owners), page_count * page_size,"
            " (page_count - freelist_count) * page_size, user_version"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size, pragma_user_version"
        )
        return store_stats(
            {lane: self._counts(lane, most=2**62) for (lane,) in lanes},
            claimed=dict(self._rows(f"SELECT lane, count(*) FROM queue WHERE {held} GROUP BY lane")),
            oldest=oldest,
            used_bytes=used_bytes,
            file_bytes=file_bytes,
            owners=owners,
            schema=schema,
        )

    def check(self) -> Mapping[str, Sequence[Claim]]:
        """If the file was moved or deleted, take its ready records out of it, so that a new file is created.

        The records that this process has claimed are removed as well, because it enqueues them again.
        """
        if self.file.is_same_file():
            return {}
        ready: dict[str, list[Claim]] = {}
        with contextlib.suppress(StoreError):
            if self.file.is_open:
                with self._write() as cursor:
                    select = f"SELECT lane, record, enqueued_at, body FROM {JOINED} WHERE claimed_by = ?"
                    rows = cursor.execute(select, (UNCLAIMED,)).fetchall()
                    delete = "DELETE FROM queue WHERE claimed_by IN (?, ?) AND in_flight <> 1"
                    cursor.execute(delete, (UNCLAIMED, self.owner_id))
                for lane, *row in rows:
                    ready.setdefault(lane, []).append(Claim(*row))
        self._logger.log(
            logging.ERROR,
            f"spool {self.name}: the file was moved or deleted; a new one is started with the records that were "
            "waiting in it",
            key="gone",
        )
        self.file.disconnect()
        self.file.epoch = 0
        return ready

    def recover(self, in_flight: Failure | None, poison: Failure) -> tuple[int, int]:
        """Recover the claims of processes that have ended, which their lock shows."""
        with self._acquiring:
            if self.file.owner_lock is not None:
                self.file.owner_lock.renew()
        owners = [owner for (owner,) in self._rows("SELECT owner FROM owners")]
        ended = [owner for owner in owners if not owner_lock.is_alive(self.name, owner)]
        if not ended:
            return 0, 0
        now = self._clock.time()
        with self._write() as cursor:
            dead = queries.recover(cursor, ended, in_flight, poison, options=self._options, now=now)
        for owner in ended:
            owner_lock.remove(self.name, owner)
        return dead

    def maintain(self) -> None:
        """Checkpoint the log, and delete old keys and dead letters once a minute."""
        try:
            maintenance.checkpoint_if_needed(self.file)
        finally:
            if (now := self._clock.monotonic()) >= self._next_prune:
                self._next_prune = now + _PRUNE_EVERY
                maintenance.prune(self.file, self._options, now=self._clock.time())

    def close(self) -> None:
        """Release this process's claims that are not in flight, and close the file."""
        with self._acquiring:
            self._closed = True
            lock, self.file.owner_lock = self.file.owner_lock, None
        if lock is not None:
            with contextlib.suppress(StoreError), self._write() as cursor:  # others see that the lock is free
                queries.release_owner(cursor, self.owner_id)
            lock.release()
        self.file.close()

    def _acquire_owner(self) -> None:
        """Acquire this process's lock, just before it claims rows, because only claims lead others to its file.

        Raises:
            StoreError: The file cannot be used, or no lock file can be created beside it.
        """
        with self._acquiring:
            if self._closed:
                raise StoreUnavailable("the spool is closed")
            if self.file.owner_lock is None:
                with self.file.read(self._timeout):  # no lock file is created beside another program's database
                    pass
                self.file.owner_lock = OwnerLock(self.name, self.owner_id)

    def _enqueue(self, cursor: Cursor, records: Sequence[NewRecord], counts: Counts) -> list[dict[str, int]]:
        now = self._clock.time()
        return queries.enqueue(cursor, records, counts, epoch=self.epoch, options=self._options, now=now)

    def _queued(self, where: str, *parameters: object) -> list[Claim]:
        select = f"SELECT record, enqueued_at, body FROM {JOINED} WHERE {where}"
        return [Claim(*row) for row in self._rows(select, parameters)]

    def _rows(self, statement: str, parameters: Any = (), *, timeout: float | None = None) -> list[Any]:
        """Return the rows of a statement that only reads."""
        with self.file.read(self._timeout if timeout is None else timeout) as cursor:
            return cursor.execute(statement, parameters).fetchall()

    def _write(self) -> AbstractContextManager[Cursor]:
        return self.file.write(self._timeout)
