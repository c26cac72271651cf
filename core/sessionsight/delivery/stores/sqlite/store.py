"""A store in a SQLite file that all processes of a host share."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stats import RecordStatus
from sessionsight.delivery.stores.base import (
    DELIVERED,
    FALLBACK,
    Claim,
    DeadLetter,
    Enqueued,
    LaneBatch,
    Outcome,
)
from sessionsight.delivery.stores.codec import decode_entry, encode_entry
from sessionsight.delivery.stores.errors import StoreError, StoreUnavailable, UnencodableRecord
from sessionsight.delivery.stores.sqlite import dead_letters, lookup, queries, recovery, stats
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from sessionsight.delivery.stores.sqlite.maintenance import Maintenance, Quota
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED, OwnerLock
from sessionsight.log import ThrottledLogger

__all__ = ["SqliteStore"]

T = TypeVar("T")

# Seconds for which calls that no request waits for may wait for other writers.
_BUSY_TIMEOUT = 1.0


class SqliteStore:
    """A `Store` in a SQLite file.

    Args:
        path: The file, created by the first call that needs it. Its folder must exist.
        options: Bounds and time limits.
        logger: For damaged, moved and deleted files.
        clock: The time of maintenance, retries and ages.
    """

    def __init__(self, path: str, options: DeliveryOptions, logger: ThrottledLogger, *, clock: Clock = time) -> None:
        self._clock = clock
        self.name = path
        self.epoch = 0
        """The first row id of the open file; 0 before one is open."""
        self.file = SqliteConnection(
            path,
            synchronous=options.spool_synchronous,
            on_open=self._opened,
            on_quarantine=self._quarantined,
            clock=clock,
        )
        self._options = options
        self._logger = logger
        self._names: set[str] = set()
        self._lanes: dict[str, int] = {}
        self._owner_lock: OwnerLock | None = None
        self._acquiring = threading.RLock()
        self._quota = Quota(options.spool_bytes)
        self._maintenance = Maintenance(self.file, options, clock)
        self._closed = False

    @property
    def owner_id(self) -> int:
        """The id under which this process claims rows; `UNCLAIMED` before it has claimed any."""
        return UNCLAIMED if self._owner_lock is None else self._owner_lock.id

    def register(self, lane: str) -> None:
        """Add a lane."""
        self._names.add(lane)
        self.file.disconnect()  # the next connection adds it to the file

    def enqueue(
        self,
        batches: Sequence[LaneBatch],
        *,
        timeout: float,
        on_request_path: bool = False,
        from_fallback: bool = False,
    ) -> Enqueued:
        """Add records to all lanes that accept them, in one transaction."""
        bodies = _encode(batches)

        def work(connection: sqlite3.Connection) -> Enqueued:
            enqueued = queries.enqueue(
                connection,
                batches,
                bodies,
                lanes=self._lanes,
                epoch=self.epoch,
                window=self._options.dedupe_window,
            )
            if from_fallback:
                counts = {(self._lanes[batch.lane], FALLBACK): len(batch.entries) for batch in batches}
                queries.increment(connection, counts)
            evicted = self._quota.enforce(connection, sum(map(len, bodies.values())))
            return replace(enqueued, evicted=evicted)

        return self.file.write(work, timeout=timeout, on_request_path=on_request_path)

    def claim(self, lane: str, *, max_records: int, max_bytes: int, timeout: float) -> Claim:
        """Claim a lane's next records, goals first."""
        work = partial(queries.claim, max_records=max_records, max_bytes=max_bytes, now=self._clock.time())
        epoch, (rows, more) = self._write(lane, work, timeout)
        entries: list[QueuedRecord] = []
        unreadable: dict[int, str] = {}
        for row_id, enqueued_at, body in rows:
            try:
                entries.append(decode_entry(body, enqueued_at=enqueued_at, handle=row_id))
            except Exception as error:  # written by another release, or damaged
                unreadable[row_id] = str(error)
        return Claim(epoch, entries, unreadable, more)

    def mark_in_flight(self, lane: str, entries: Sequence[QueuedRecord], *, timeout: float) -> tuple[int, set[int]]:
        """Set the in-flight flag of the rows that this process still holds."""
        return self._write(lane, partial(queries.mark_in_flight, entries=entries), timeout)

    def resolve(self, lane: str, outcomes: Sequence[Outcome], *, timeout: float) -> None:
        """Apply outcomes in one transaction."""
        failures: list[Exception] = []

        def work(connection: sqlite3.Connection) -> None:
            failures.clear()  # the transaction may be retried
            for outcome in outcomes:
                try:
                    self._apply(connection, self._lanes[lane], outcome)
                except sqlite3.Error:
                    raise
                except Exception as error:  # a repetition would fail as well
                    failures.append(error)

        self.file.write(work, timeout=timeout)
        if failures:
            raise failures[0]

    def import_counts(
        self,
        lane: str,
        *,
        delivered: int,
        dropped: Counter[DropReason],
        dead_letters: Sequence[DeadLetter],
        timeout: float,
    ) -> int:
        """Count records that were resolved without ever having been in the file, and add their dead letters."""

        def work(connection: sqlite3.Connection) -> int:
            return queries.import_counts(
                connection,
                self._lanes[lane],
                delivered=delivered,
                dropped=dropped,
                dead_letters=dead_letters,
                now=self._clock.time(),
            )

        return self.file.write(work, timeout=timeout)

    def has_ready(self, lane: str) -> bool:
        """Return whether the lane has records that no process has claimed."""
        return self._read(partial(stats.has_ready, lane=lane))

    def last_handle(self) -> int | None:
        """Return the newest record's row id."""
        return self._read(stats.last_id)

    def count_unresolved(self, lane: str, *, last: int | None = None) -> int:
        """Return the number of records that this process or no process has claimed, up to a hundred."""
        return self._read(partial(stats.count_unresolved, lane=lane, owner=self.owner_id, last=last))

    def owned_or_ready(self, lane: str, handles: Sequence[int], *, timeout: float) -> set[int]:
        """Return those of the row ids that this process or no process has claimed."""
        work = partial(stats.owned_or_ready, lane=lane, owner=self.owner_id, row_ids=handles)
        return self.file.read(work, timeout=timeout)

    def status(self, lane: str, random: bytes) -> RecordStatus:
        """Return what is known of a record."""
        return self._read(lambda connection: lookup.record_status(connection, self._lanes[lane], random))

    def erase(self, lane: str, user_id: str, *, timeout: float) -> int:
        """Drop a user's unclaimed records and dead letters, in one transaction."""
        return self.file.write(
            lambda connection: lookup.erase_user(connection, self._lanes[lane], user_id), timeout=timeout
        )

    def counts(self, lane: str) -> Counter[str]:
        """Return the lane's counters."""
        return self._read(partial(stats.lane_counts, lane=lane))

    def dead_letters(self, lane: str) -> list[DeadLetter]:
        """Return the lane's dead letters, oldest first, without those that cannot be decoded."""
        return self._read(partial(dead_letters.of_lane, lane=lane))

    def check(self) -> dict[str, list[QueuedRecord]]:
        """If the file was moved or deleted, take its ready records out of it, so that a new file is created."""
        if self.file.is_same_file():
            return {}
        found: dict[str, list[QueuedRecord]] = {}
        with contextlib.suppress(StoreError):
            found = self.file.write(partial(queries.drain_unclaimed, owner=self.owner_id), timeout=_BUSY_TIMEOUT)
        self._logger.log(
            logging.ERROR,
            f"spool {self.name}: the file was moved or deleted; a new one is started with the records that were "
            "waiting in it",
            key="gone",
        )
        self.file.disconnect()
        self.epoch = 0  # no claim is valid any more, even if no other file can be opened
        return found

    def recover(self) -> int:
        """Recover the claims of processes that have ended, which their lock shows."""
        lock = self._acquire_owner()
        try:
            renewed = lock.renew()
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        if not renewed:
            raise StoreUnavailable("its -lock file was removed; it is locked again as soon as possible")
        abandoned = [owner for owner in self._read(recovery.owners) if not lock.is_alive(owner)]
        if not abandoned:
            return 0
        dead_letter = self._options.goals_on_unknown == "dead_letter"
        work = partial(
            recovery.recover_abandoned,
            abandoned=abandoned,
            dead_letter=dead_letter,
            keep=self._options.dead_letters,
            now=self._clock.time(),
        )
        return self.file.write(work, timeout=_BUSY_TIMEOUT)

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
                self.file.write(partial(recovery.release_owner, owner=lock.id), timeout=_BUSY_TIMEOUT)
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
                self._read(_open)  # no lock file is created beside another program's database
                try:
                    self._owner_lock = OwnerLock(self.file.path)
                except OSError as error:
                    raise StoreUnavailable(str(error)) from error
            return self._owner_lock

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self.file.read(work, timeout=_BUSY_TIMEOUT)

    def _write(self, lane: str, work: Callable[..., T], timeout: float) -> tuple[int, T]:
        """Run a step for a lane and this owner, and return the epoch in which it was run, and its result."""
        owner = self._acquire_owner().id
        return self.file.write(
            lambda connection: (self.epoch, work(connection, self._lanes[lane], owner)), timeout=timeout
        )

    def _apply(self, connection: sqlite3.Connection, lane: int, outcome: Outcome) -> None:
        owner, keep, now = self.owner_id, self._options.dead_letters, self._clock.time()
        if outcome.delivered:
            queries.delete(connection, lane, owner, outcome.delivered, DELIVERED)
        if outcome.dropped and outcome.reason is not None:
            queries.delete(connection, lane, owner, outcome.dropped, outcome.reason.value)
        if outcome.dead_letters:
            queries.dead_letter(connection, lane, owner, outcome.dead_letters, keep=keep, now=now)
        if outcome.unreadable:
            queries.dead_letter_unreadable(connection, lane, owner, outcome.unreadable, keep=keep, now=now)
        if outcome.not_sent:
            queries.clear_in_flight(connection, lane, owner, outcome.not_sent)

    def _opened(self, connection: sqlite3.Connection, epoch: int) -> None:
        self.epoch = epoch
        self._lanes = queries.ensure_lanes(connection, self._names)

    def _quarantined(self, moved_to: str, reason: str) -> None:
        """Log that a damaged file was moved."""
        self._logger.log(
            logging.ERROR,
            f"spool {moved_to.rpartition('.corrupt-')[0]} is damaged ({reason}); it was moved to {moved_to}, and a "
            "new one is started",
            key="corrupt",
        )


def _open(connection: sqlite3.Connection) -> None:
    """Open the file, and do nothing else."""


def _encode(batches: Sequence[LaneBatch]) -> dict[int, bytes]:
    """Return the `id()` of each record to its encoded body."""
    bodies: dict[int, bytes] = {}
    try:
        for batch in batches:
            for entry in batch.entries:
                if (known := id(entry.record)) not in bodies:
                    bodies[known] = encode_entry(entry)
    except Exception as error:
        raise UnencodableRecord(f"a record cannot be written ({type(error).__name__}: {error})") from error
    return bodies
