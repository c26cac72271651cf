"""A store in a SQLite file that all processes of a host share."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from secrets import randbits
from typing import Any, TypeVar

from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.base import (
    FALLBACK,
    MAX_COUNTED,
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
    complete_counts,
    lane_stats,
)
from sessionsight.delivery.stores.errors import StoreError, StoreUnavailable
from sessionsight.delivery.stores.sqlite import dead_letters, owner_lock, queries
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from sessionsight.delivery.stores.sqlite.maintenance import Maintenance
from sessionsight.delivery.stores.sqlite.owner_lock import OwnerLock
from sessionsight.delivery.stores.sqlite.queries import JOINED, READY_LANES, ROW, UNCLAIMED
from sessionsight.log import ThrottledLogger

__all__ = ["SqliteStore"]

T = TypeVar("T")

# Those of records and dead letters included. The inner query makes this use the index.
_COUNTS = """
    SELECT counter, number FROM counts WHERE lane = :lane
    UNION ALL SELECT 'pending', count(*) FROM (SELECT 1 FROM queue
        WHERE claimed_by IN (SELECT 0 UNION ALL SELECT owner FROM owners) AND lane = :lane LIMIT :most)
    UNION ALL SELECT 'dead', count(*) FROM dead_letters WHERE lane = :lane"""


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
        self._owner_lock: OwnerLock | None = None
        self._acquiring = threading.RLock()
        self._maintenance = Maintenance(self.file, options, clock)
        self._closed = False

    @property
    def epoch(self) -> int:
        """The first row id of the open file; 0 before one is open."""
        return self.file.epoch

    def enqueue(self, records: Sequence[NewRecord], counts: Counts, *, batch_id: bytes, timeout: float) -> Enqueued:
        """Add records to their lanes and add to the counters, in one transaction, whose result is always known."""

        def work(connection: sqlite3.Connection) -> Enqueued:
            handles = self._enqueue(connection, records, counts)
            return Enqueued(handles, queries.evict(connection, self._options.spool_bytes))

        return self.file.write(work, timeout=timeout)

    def claim(self, lane: str, *, max_records: int, max_bytes: int, timeout: float) -> Claimed:
        """Claim a lane's next rows, by priority."""
        self._acquire_owner()

        def work(connection: sqlite3.Connection) -> Claimed:
            found = queries.claim(connection, lane, self.owner_id, max_records=max_records, max_bytes=max_bytes)
            return Claimed(self.epoch, *found)

        return self.file.write(work, timeout=timeout)

    def claimed(self, lane: str) -> Claimed:
        """Return the rows that this process has claimed and that are not in flight."""
        select = f"SELECT record, enqueued_at, body FROM {JOINED} WHERE claimed_by = ? AND lane = ? AND in_flight <> 1"  # noqa: S608
        return self._read(
            lambda it: Claimed(
                self.epoch, [Claim(*row) for row in it.execute(select, (self.owner_id, lane))], more=True
            )
        )

    def mark_in_flight(self, lane: str, handles: Sequence[int], *, timeout: float) -> tuple[int, set[int]]:
        """Set the in-flight flag of the rows that this process still holds."""
        update = f"UPDATE queue SET in_flight = 1 WHERE {ROW}"  # noqa: S608

        def work(connection: sqlite3.Connection) -> tuple[int, set[int]]:
            rows = ((handle, (self.owner_id, lane, handle)) for handle in handles)
            return self.epoch, {handle for handle, row in rows if connection.execute(update, row).rowcount}

        return self.file.write(work, timeout=timeout)

    def settle(self, lane: str, outcomes: Sequence[Outcome], *, timeout: float) -> None:
        """Apply outcomes in one transaction."""
        keep, now = self._options.dead_letters, self._clock.time()

        def work(connection: sqlite3.Connection) -> None:
            for outcome in outcomes:
                queries.settle(connection, lane, self.owner_id, outcome, keep=keep, now=now)

        self.file.write(work, timeout=timeout)

    def ready(self) -> list[str]:
        """Return the lanes that have unclaimed rows."""
        return [lane for (lane,) in self._rows(READY_LANES)]

    def last_handle(self) -> int | None:
        """Return the newest record's row id."""
        [(handle,)] = self._rows("SELECT max(id) FROM records")
        return None if handle is None else int(handle)

    def count_unresolved(self, lane: str, *, last: int | None = None) -> int:
        """Return the number of records that this process or no process has claimed, up to a hundred."""
        [(number,)] = self._rows(
            "SELECT count(*) FROM (SELECT 1 FROM queue WHERE claimed_by IN (?, ?) AND lane = ?"
            " AND (? IS NULL OR record <= ?) LIMIT 100)",
            (UNCLAIMED, self.owner_id, lane, last, last),
        )
        return int(number)

    def owned_or_ready(self, lane: str, handles: Sequence[int], *, timeout: float) -> set[int]:
        """Return those of the row ids that this process or no process has claimed."""
        marks = ", ".join("?" * len(handles))
        select = f"SELECT record FROM queue WHERE claimed_by IN (?, ?) AND lane = ? AND record IN ({marks})"  # noqa: S608
        found = self._rows(select, (UNCLAIMED, self.owner_id, lane, *handles), timeout=timeout)
        return {handle for (handle,) in found}

    def search(self, lane: str, fragment: bytes) -> list[StoredRecord]:
        """Return the queued records whose body contains these bytes. They have no index, so all are read."""
        select = f"SELECT record, body, claimed_by = ? FROM {JOINED} WHERE lane = ? AND instr(body, ?)"  # noqa: S608
        found = self._rows(select, (UNCLAIMED, lane, fragment))
        return [StoredRecord(handle, body, bool(ready)) for handle, body, ready in found]

    def discard(self, lane: str, handles: Sequence[int], *, counter: str) -> int:
        """Drop unclaimed records."""

        def work(connection: sqlite3.Connection) -> int:
            rows = [(UNCLAIMED, lane, handle) for handle in handles]
            deleted = connection.executemany(f"DELETE FROM queue WHERE {ROW}", rows).rowcount if rows else 0  # noqa: S608
            dead_letters.increment(connection, {(lane, counter): deleted})
            return deleted

        return self._write(work)

    def counts(self, lane: str) -> Counter[str]:
        """Return the lane's counters."""
        return self._counts(lane, most=MAX_COUNTED)

    def _counts(self, lane: str, *, most: int) -> Counter[str]:
        """Return counters, for which pending records are counted up to `most`."""
        return complete_counts(Counter(dict(self._rows(_COUNTS, {"lane": lane, "most": most}))), most)

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
        lanes = self._rows("SELECT DISTINCT lane FROM counts ORDER BY lane")
        counts = {lane: self._counts(lane, most=2**62) for (lane,) in lanes}
        held = "claimed_by IN (SELECT owner FROM owners)"
        claimed = self._rows(f"SELECT lane, count(*) FROM queue WHERE {held} GROUP BY lane")  # noqa: S608
        [(oldest, owners, file_bytes, schema)] = self._rows(
            "SELECT (SELECT min(enqueued_at) FROM queue), (SELECT count(*) FROM owners), page_count * page_size,"
            " user_version FROM pragma_page_count, pragma_page_size, pragma_user_version"
        )
        return StoreStats(
            lanes={lane: lane_stats(found, state="-", last_error=None) for lane, found in counts.items()},
            claimed=dict(claimed),
            oldest=oldest,
            bypassed=sum(found[FALLBACK] for found in counts.values()),
            used_bytes=self._read(queries.used_bytes),
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

        def work(connection: sqlite3.Connection) -> None:
            select = f"SELECT lane, record, enqueued_at, body FROM {JOINED} WHERE claimed_by = ?"  # noqa: S608
            for lane, *row in connection.execute(select, (UNCLAIMED,)):
                ready.setdefault(lane, []).append(Claim(*row))
            delete = "DELETE FROM queue WHERE claimed_by IN (?, ?) AND in_flight <> 1"
            connection.execute(delete, (UNCLAIMED, self.owner_id))

        try:
            if self.file.is_open:
                self._write(work)
        except StoreError:
            ready.clear()
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
            if self._owner_lock is not None:
                self._owner_lock.renew()
        owners = [owner for (owner,) in self._rows("SELECT owner FROM owners")]
        ended = [owner for owner in owners if not owner_lock.is_alive(self.name, owner)]
        if not ended:
            return 0, 0
        keep, now = self._options.dead_letters, self._clock.time()
        dead = self._write(lambda it: queries.recover(it, ended, in_flight, poison, keep=keep, now=now))
        for owner in ended:
            owner_lock.remove(self.name, owner)
        return dead

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
                self._write(partial(queries.release_owner, owner=self.owner_id))
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
            if self._owner_lock is None:
                self._read(lambda _: None)  # no lock file is created beside another program's database
                self._owner_lock = OwnerLock(self.name, self.owner_id)

    def _enqueue(
        self, connection: sqlite3.Connection, records: Sequence[NewRecord], counts: Counts
    ) -> list[dict[str, int]]:
        now = self._clock.time()
        return queries.enqueue(connection, records, counts, epoch=self.epoch, options=self._options, now=now)

    def _rows(self, statement: str, parameters: Any = (), *, timeout: float | None = None) -> list[Any]:
        """Return the rows of a statement that only reads."""
        timeout = self._timeout if timeout is None else timeout
        return self.file.read(lambda it: it.execute(statement, parameters).fetchall(), timeout=timeout)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self.file.read(work, timeout=self._timeout)

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self.file.write(work, timeout=self._timeout)
