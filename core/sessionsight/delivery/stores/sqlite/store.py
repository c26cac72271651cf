"""A spool in a SQLite file that all processes of a host share."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from weakref import WeakSet

from msgspec.structs import replace

from sessionsight.capture.records import QueuedRecord
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import LaneBatch
from sessionsight.delivery.queue.codec import encode_entry
from sessionsight.delivery.queue.durable import DurableLaneQueue
from sessionsight.delivery.stores.errors import (
    ReentrantCall,
    StoreBusy,
    StoreError,
    StoreUnavailable,
    UnencodableRecord,
)
from sessionsight.delivery.stores.sqlite import maintenance, queries, quota, recovery
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED, OwnerLock
from sessionsight.log import ThrottledLogger
from sessionsight.test_mode import test_mode

__all__ = ["SqliteSpool"]

# For what is not done while a request waits.
_PATIENCE = 1.0


_spools: WeakSet[SqliteSpool] = WeakSet()


class SqliteSpool:
    """A `Spool` in a file. What a finished request has captured survives the process.

    Whatever is wrong with the file, records are taken in: they wait in memory until it can be used.

    Args:
        path: The file; it is made when it is needed. Its folder must exist.
        options: Bounds and time limits.
        logger: Logs what an operator should know.
    """

    durable = True

    def __init__(self, path: str, options: DeliveryOptions, logger: ThrottledLogger) -> None:
        self.options = options
        self.logger = logger
        self.path = path
        self.file = SqliteConnection(
            path, synchronous=options.spool_synchronous, on_open=self._opened, on_quarantine=self._set_aside
        )
        self.lanes: dict[str, int] = {}
        self.base = 0
        """Where the row ids of the file begin that was opened last; another file has another one."""
        self._lanes: dict[str, DurableLaneQueue] = {}
        self._owner_lock: OwnerLock | None = None
        self._owning = threading.RLock()
        self._maintaining = threading.Lock()
        self._quota = quota.Quota(options.spool_bytes)
        self._maintenance = maintenance.Maintenance(self.file, options)
        self._closed = False
        # Tests make a client for each value that settings have had, and none of them delivers.
        if not test_mode.suppressed and any(
            other.path == self.path and other.file.pid == os.getpid() and not other._closed for other in _spools
        ):
            logger.log(
                logging.WARNING,
                f"spool {self.path}: two clients of this process share it, so each may deliver the other's records "
                "with its own keys; give each a file of its own",
                key="shared",
            )
        _spools.add(self)
        self.maintained = False
        """Whether this process has looked after what others have left."""

    def lane(self, lane: str) -> DurableLaneQueue:
        """The queue of the lane of this name."""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = DurableLaneQueue(lane, self)
            self.file.reopen()  # whereby the file learns the name
        return queue

    def enqueue(self, shares: Sequence[LaneBatch]) -> dict[tuple[str, bytes], int] | None:
        """Write records down, for all lanes in one transaction; in memory where that is not possible in time."""
        if not shares:
            return None
        for share in shares:
            if share.lane not in self._lanes:
                self.lane(share.lane)
        try:
            return self._enter(shares, wait=self.options.spool_busy_timeout, urgent=True)
        except StoreError as fault:
            self.report(fault)
            if isinstance(fault, StoreBusy):
                self.logger.log(
                    logging.WARNING,
                    f"spool {self.path}: others were writing for {self.options.spool_busy_timeout:g} s; a request's "
                    "records wait in memory until they can be written",
                    key="busy",
                )
            for share in shares:
                self._lanes[share.lane].enqueue_in_fallback(share, fault)
            return None

    def enqueue_from_fallback(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Write down what a lane had to keep in memory.

        Raises:
            StoreError: It still cannot be written.
        """
        self._enter([LaneBatch(lane, entries)], wait=_PATIENCE, late=True)

    def enqueue_again(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Enter what was in another file before; in memory where that is not possible."""
        if not entries:
            return
        share = LaneBatch(lane, [replace(entry, handle=0) for entry in entries])
        try:
            self._enter([share], wait=_PATIENCE)
        except StoreError as fault:
            self.report(fault)
            self._lanes[lane].enqueue_in_fallback(share, fault)

    def own(self) -> int:
        """Return the id under which this process claims rows, and become an owner for it if need be.

        Raises:
            StoreError: The file cannot be used, or there can be no lock beside it.
        """
        return self._own().id

    def _own(self) -> OwnerLock:
        with self._owning:
            if self._closed:
                raise StoreUnavailable("the spool is closed")
            if self._owner_lock is None:
                self.file.read(_nothing, wait=_PATIENCE)  # nothing is put beside a file that is not ours
                try:
                    self._owner_lock = OwnerLock(self.path)
                except OSError as error:
                    raise StoreUnavailable(str(error)) from error
            return self._owner_lock

    @property
    def owner_id(self) -> int:
        """Under which this process claims rows."""
        return UNCLAIMED if self._owner_lock is None else self._owner_lock.id

    def tend(self, now: float) -> None:
        """Take over what dead processes have left, and keep the file in order. One thread at a time does."""
        if self._closed or not self._maintaining.acquire(blocking=False):
            return
        self.maintained = True
        try:
            if not self.file.is_same_file():
                self._rescue()
            lock = self._own()
            self._checkpoint_if_needed(now)
            if not lock.renew():
                raise StoreUnavailable("somebody has taken its -lock file away; it is locked again as soon as possible")
            recovery.take_over(self, lock)
            self._maintenance.clean(now)
        except StoreError as fault:
            self.report(fault)
        except OSError as error:  # of the files beside it
            self.report(StoreUnavailable(str(error)))
        finally:
            self._maintaining.release()

    def report(self, fault: StoreError) -> None:
        """Tell the operator; a file that is merely busy is no news to a lane."""
        if not isinstance(fault, (StoreBusy, ReentrantCall)) and not self._closed:
            self.logger.log(
                logging.ERROR,
                f"spool {self.path}: {fault}; records are kept in memory until it can be used",
                key="spool",
            )

    def close(self) -> None:
        """Let go of the file, and of all that this process owns in it."""
        with self._owning:
            self._closed = True
            lock, self._owner_lock = self._owner_lock, None
        if lock is not None:
            with contextlib.suppress(StoreError):  # whoever comes next sees that the lock is free
                self.file.write(partial(recovery.resign, owner=lock.id), wait=_PATIENCE)
            lock.release()
        self.file.close()

    # --- inside ----------------------------------------------------------------------------------

    def _checkpoint_if_needed(self, now: float) -> None:
        try:
            self._maintenance.checkpoint_if_needed(now)
        except StoreError as fault:  # which keeps nobody from trying the rest
            self.report(fault)

    def _rescue(self) -> None:
        """The file was moved or deleted: start a new one with what still waits in the old one."""
        found: dict[str, list[QueuedRecord]] = {}
        with contextlib.suppress(StoreError):
            found = self.file.write(partial(queries.drain_unclaimed, owner=self.owner_id), wait=_PATIENCE)
        self.logger.log(
            logging.ERROR,
            f"spool {self.path}: the file was moved or deleted; a new one is started with what was waiting in it",
            key="gone",
        )
        self.file.reopen()
        self.base = 0  # so that lanes enter again what they had claimed, also where no other file can be opened
        for lane, entries in found.items():
            self.lane(lane)
            self.enqueue_again(lane, entries)

    def _enter(
        self, shares: Sequence[LaneBatch], *, wait: float, urgent: bool = False, late: bool = False
    ) -> dict[tuple[str, bytes], int]:
        bodies = _bodies(shares)

        placed: dict[tuple[str, bytes], int] = {}

        def work(connection: sqlite3.Connection) -> tuple[dict[str, tuple[int, int]], Counter[str]]:
            placed.clear()  # what is tried again may come elsewhere
            entered = queries.enter(
                connection,
                shares,
                bodies,
                lanes=self.lanes,
                base=self.base,
                window=self.options.dedupe_window,
                placed=placed,
            )
            if late:
                counts = {(self.lanes[share.lane], queries.FALLBACK): len(share.entries) for share in shares}
                queries.count(connection, counts)
            return entered, self._quota.hold(connection, sum(map(len, bodies.values())))

        entered, evicted = self.file.write(work, wait=wait, urgent=urgent)
        for lane, (number, size) in entered.items():
            if number:
                self._lanes[lane].horizon.entered(number, size)
        for lane, number in evicted.items():
            if lane in self._lanes:
                self._lanes[lane].add_evicted(number)
        return placed

    def _opened(self, connection: sqlite3.Connection, base: int) -> None:
        self.base = base
        self.lanes = queries.ensure_lanes(connection, self._lanes)

    def _set_aside(self, aside: str, why: str) -> None:
        """Tell the operator that a damaged file was moved."""
        self.logger.log(
            logging.ERROR,
            f"spool {aside.rpartition('.corrupt-')[0]} is damaged ({why}); it was moved to {aside}, and a new one is "
            "started",
            key="corrupt",
        )


def _nothing(connection: sqlite3.Connection) -> None:
    """Open the file, and do nothing else."""


def _bodies(shares: Sequence[LaneBatch]) -> dict[int, bytes]:
    """The `id()` of each record to its bytes."""
    bodies: dict[int, bytes] = {}
    try:
        for share in shares:
            for entry in share.entries:
                if (known := id(entry.record)) not in bodies:
                    bodies[known] = encode_entry(entry)
    except Exception as error:
        raise UnencodableRecord(f"a record cannot be written ({type(error).__name__}: {error})") from error
    return bodies
