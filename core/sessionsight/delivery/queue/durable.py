"""One lane's queue in a spool's file, and in memory while the file cannot be used."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.queue.base import DeadLetter, LaneBatch
from sessionsight.delivery.queue.claims import Claims, split_stored
from sessionsight.delivery.queue.codec import decode_entry
from sessionsight.delivery.queue.fallback import FallbackBuffer
from sessionsight.delivery.queue.pending_writes import PendingWrites
from sessionsight.delivery.queue.reader import LaneReader
from sessionsight.delivery.queue.ready_hint import ReadyHint
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.errors import ForeignDatabase, StoreError, UnencodableRecord
from sessionsight.delivery.stores.sqlite import dead_letters, queries, stats

if TYPE_CHECKING:
    from sessionsight.delivery.stores.sqlite.store import SqliteSpool

__all__ = ["DurableLaneQueue"]

T = TypeVar("T")

# How long a lane's thread waits for others to be done with the file.
_PATIENCE = 1.0
_PATIENCE_AT_THE_END = 0.2
# Between looks at what other processes have left, in seconds.
_MAINTAIN_EVERY = 2.0
# The same, while something is in memory that should be in the file.
_RETRY_AFTER = 0.1
# A peer waits for no more than this if this process is stopped.
_MAX_CLAIM = 500
# Where a vendor takes records one by one, they are claimed in advance.
_PREFETCH = 32


class DurableLaneQueue:
    """The `LaneQueue` of one lane.

    What has come of a record is written at once. While that fails it is remembered, and written with
    the next thing that succeeds.

    A record with a key that the file cannot take now is held in memory until the file takes it, for only the file
    knows whether the key was seen before. At the end of the process it is sent all the same, as far as time allows.
    """

    def __init__(self, name: str, spool: SqliteSpool) -> None:
        self.name = name
        self._spool = spool
        self._fallback = FallbackBuffer(spool.options)
        # Re-entrant, as the file's is.
        self._changed = threading.Condition(threading.RLock())
        # Held while something moves to the file, so that nobody counts it twice or not at all. Never by a request.
        self._transfer_lock = threading.RLock()
        self._pending_writes = PendingWrites()
        self._claims = Claims()
        self._reader = LaneReader(name, spool)
        self.horizon = ReadyHint()
        self._evicted = 0
        self.on_resolved: Callable[[Sequence[QueuedRecord]], None] | None = None
        self._fallback.free.on_resolved = self._fallback.held.on_resolved = self._tell_settled
        # As it was when the file could be read last.
        self._stored: Counter[str] = Counter()
        self._next_maintenance = 0.0
        self._last_error: str | None = None
        self._patience = _PATIENCE
        self._ending = False
        self._draining = False
        self._closed = False

    def add_evicted(self, number: int) -> None:
        """So many had to go to make room."""
        self._evicted += number

    def enqueue_in_fallback(self, share: LaneBatch, fault: StoreError) -> None:
        """Take records in where the file cannot."""
        self._fallback.take_in(share, hold=self._waits_for_file(fault))
        self._next_maintenance = 0.0

    def maintain(self) -> float:
        """See to what is left over: the other processes', the memory's, what is owed to the file."""
        now = time.monotonic()
        if self._closed:
            return float("inf")
        self._follow(self._spool.base)
        if now < self._next_maintenance:
            return self._next_maintenance
        self._next_maintenance = now + _MAINTAIN_EVERY
        self._spool.tend(now)
        self._follow(self._spool.base)
        self._flush_writes()
        self._drain_fallback()
        if self.horizon.since is None:
            with contextlib.suppress(StoreError):  # which was told of
                if self._reader.has_unclaimed():
                    self.horizon.entered(1, 0)
        return self._next_maintenance

    def depth(self) -> tuple[int, int, float | None]:
        """How many records nobody has claimed, as far as is known here, their bytes, and since when."""
        number, size, since = self._fallback.free.depth()
        if self._draining:
            return number, size, since
        if (known := self.horizon.since) is not None:
            number, size = number + self.horizon.number, size + self.horizon.size
            since = known if since is None else min(since, known)
        if prefetched := self._claims.prefetched:
            number, since = number + prefetched, 0.0
        return number, size, since

    def claim(self, max_records: int, max_bytes: int) -> Sequence[QueuedRecord]:
        """Take the next entries to be sent: claimed before, or in the file, or in memory."""
        if self._draining:
            return self._fallback.free.claim(max_records, max_bytes)
        if not self._claims.prefetched:
            self._claim(min(max(max_records, _PREFETCH), _MAX_CLAIM), max_bytes)
        return self._claims.take(max_records) or self._fallback.free.claim(max_records, max_bytes)

    def mark_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> Sequence[QueuedRecord] | None:
        """Return those that this process still holds, marked as in flight; None when they cannot be marked now.

        Rows are given back in a transaction that leaves out what is marked. So each is either marked, or not sent.
        """
        held = self._claims.still_held(entries)
        written, _ = split_stored(held)
        if not durably or not written:
            return held
        try:
            with self._transfer_lock:
                if self._draining:
                    return split_stored(held)[1]
                self._pending_writes.pay(self._spool.file, wait=self._patience)  # an older step may clear the same mark
                base, marked = self._write(partial(queries.mark_in_flight, entries=written))
                self._claims.mark_in_flight(written, marked, base=base)
        except StoreError as fault:
            self._spool.report(fault)
            return None
        return [entry for entry in held if not entry.handle or entry.handle in marked]

    def clear_in_flight(self, entries: Sequence[QueuedRecord]) -> None:
        """These have not arrived, for certain."""
        written, _ = split_stored(entries)
        if self._closed:
            return
        lost = self._claims.clear_in_flight(written)
        self._owe(written, partial(queries.clear_in_flight, entries=written))
        self._spool.enqueue_again(self.name, lost)

    def ack(self, entries: Sequence[QueuedRecord]) -> None:
        """These have arrived."""
        written, others = split_stored(entries)
        self._settle(written, partial(queries.remove, entries=written, what=queries.DELIVERED))
        if others:
            self._fallback.free.ack(others)
        self._tell_settled(entries)

    def drop(self, entries: Sequence[QueuedRecord], reason: DropReason) -> None:
        """These will not be sent, and are not kept."""
        written, others = split_stored(entries)
        self._settle(written, partial(queries.remove, entries=written, what=reason.value))
        if others:
            self._fallback.free.drop(others, reason)
        self._tell_settled(entries)

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """These cannot be delivered, and are kept as dead letters."""
        written = [letter for letter in letters if letter.entry.handle]
        others = [letter for letter in letters if not letter.entry.handle]
        entries = [letter.entry for letter in written]
        self._settle(entries, partial(queries.bury, letters=written, keep=self._spool.options.dead_letters))
        if others:
            self._fallback.free.dead_letter(others)
        self._tell_settled([letter.entry for letter in letters])

    def set_last_error(self, message: str | None) -> None:
        """Remember what went wrong last, for statistics."""
        self._last_error = message

    def pop_evicted_count(self) -> int:
        """How many records a full spool has cost since the last call."""
        evicted, self._evicted = self._evicted, 0
        return evicted + self._fallback.take_evicted()

    def begin_shutdown(self) -> None:
        """The process ends soon: what was held for its key is sent, unless the file takes it now."""
        self._ending = True
        self._next_maintenance = 0.0

    def join(self, deadline: float) -> bool:
        """Wait until nothing is left of what is there now, but for what other processes have claimed.

        As long as the file cannot be read, nobody knows that. When the process ends, what comes later is left to
        others, and goals in flight are waited for, because they would become dead letters otherwise.
        """
        last: list[int | None] = []
        while not self._is_empty(last):
            if not self._wait(deadline):
                return False
        with self._transfer_lock:  # so that a goal is counted as in flight by now, or not sent
            self._draining = self._ending
        while self._draining and self._claims.in_flight and self._wait(deadline):
            pass
        return True

    def _wait(self, deadline: float) -> bool:
        """Wait for a moment, because other processes do not notify us; return whether there is time for more."""
        remaining = deadline - time.monotonic()
        if remaining <= 0 or self._closed:
            return False
        with self._changed:
            self._changed.wait(min(remaining, 0.05))
        return True

    def close(self) -> int:
        """Accept nothing more. What is in the file stays there, for whoever comes next.

        Returns:
            How many records are lost: those that are in memory, and that the file does not take now either.
        """
        if self._closed:
            return 0
        self._patience = _PATIENCE_AT_THE_END
        self._flush_writes()
        self._drain_fallback()
        self._closed = True
        self._claims.close()
        self._notify()
        return self._fallback.close()

    def owned_or_ready(self, records: Sequence[int]) -> set[int]:
        """Which of these rows wait for this process, or for anybody; all of them while the file cannot be read."""
        with contextlib.suppress(StoreError):
            work = partial(stats.still_ours, lane=self.name, owner=self._spool.owner_id, rows=records)
            return self._spool.file.read(work, wait=self._patience)
        return {*records}

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters, oldest first."""
        self._flush_writes()
        found = self._fallback.free.dead_letters()
        with contextlib.suppress(StoreError):  # which was told of
            found = [*self._reader.dead_letters(), *found]
        return found

    @property
    def pending(self) -> int:
        """Records that wait for this process, or for anybody; counted as far as a hundred.

        While the file cannot be read there may be some, so that one is counted.
        """
        if not self._spool.maintained:  # what dead processes had claimed waits for anybody, too
            self._spool.tend(time.monotonic())
        try:
            found = self._reader.unsettled()
        except StoreError:
            found = 1
        return found + self._fallback.pending

    def snapshot(self, state: str) -> LaneStats:
        """The ledger as a value: the file's, which is that of all processes, and what is in memory.

        While the file cannot be read, it is the last one that was read, and `last_error` says so.
        """
        last_error = self._last_error
        with self._transfer_lock:
            self._flush_writes()
            memory, held = self._fallback.free.snapshot(state), self._fallback.held.snapshot(state)
            try:
                self._stored = self._reader.counts()
            except StoreError as fault:
                last_error = f"the spool cannot be read: {fault}"
        return stats.together(memory, self._stored + stats.counted(held), last_error=last_error)

    def _claim(self, max_records: int, max_bytes: int) -> None:
        if self._closed:
            return
        self.horizon.looked()
        try:
            base, (found, more) = self._write(partial(queries.claim, max_records=max_records, max_bytes=max_bytes))
        except StoreError as fault:
            self._retry_soon(fault)
            return
        self._follow(base)
        if more:
            self.horizon.entered(1, 0)
        for row, since, body in found:
            try:
                entry = decode_entry(body, since=since, row=row)
            except Exception as error:  # written by another release, or changed by somebody
                self._spool.logger.log(
                    logging.ERROR, f"{self.name}: a record in the spool cannot be read ({error})", key="unreadable"
                )
                buried = partial(dead_letters.dead_letter_unreadable, row=row, message=str(error))
                with self._transfer_lock:
                    self._pending_writes.owe(partial(self._in_lane, buried, self._spool.owner_id))
            else:
                self._claims.add(entry)

    def _follow(self, base: int) -> None:
        """If another file has replaced the one in which records were claimed, enter them again, in the new one."""
        self._spool.enqueue_again(self.name, self._claims.follow(base))

    def _write(self, work: Callable[..., T]) -> tuple[int, T]:
        """Do some work of `rows`, or of its like, for this lane and this process.

        Returns:
            The base of the file in which it was done, and the result.
        """
        owner = self._spool.own()

        def in_file(connection: sqlite3.Connection) -> tuple[int, T]:
            return self._spool.base, self._in_lane(work, owner, connection)

        return self._spool.file.write(in_file, wait=self._patience)

    def _in_lane(self, work: Callable[..., T], owner: int, connection: sqlite3.Connection) -> T:
        return work(connection, self._spool.lanes[self.name], owner)

    def _settle(self, written: Sequence[QueuedRecord], work: Callable[..., None]) -> None:
        self._claims.settle(written)
        self._owe(written, work)

    def _owe(self, written: Sequence[QueuedRecord], work: Callable[..., None]) -> None:
        if written and not self._closed:
            with self._transfer_lock:
                self._pending_writes.owe(partial(self._in_lane, work, self._spool.owner_id))
            self._flush_writes()

    def _flush_writes(self) -> None:
        """Write down what is owed."""
        with self._transfer_lock:
            try:
                if not self._closed:
                    self._pending_writes.pay(self._spool.file, wait=self._patience)
            except StoreError as fault:
                self._retry_soon(fault)

    def _drain_fallback(self) -> None:
        """Write down what had to be kept in memory, and what has come of it."""
        with self._transfer_lock:
            try:
                moved = self._fallback.move(partial(self._spool.enqueue_from_fallback, self.name), self._carry_over)
            except StoreError as fault:
                self._retry_soon(fault)
                if not self._waits_for_file(fault):
                    self._fallback.let_go()
            else:
                if moved:
                    self._spool.logger.log(
                        logging.INFO,
                        f"{self.name}: the spool can be written again; {moved} records had to wait in memory",
                        key=f"spool again:{self.name}",
                    )

    def _carry_over(self, delivered: int, dropped: Counter[DropReason], dead: Sequence[DeadLetter]) -> None:
        _, unwritten = self._write(
            partial(queries.import_fallback_counts, delivered=delivered, dropped=dropped, letters=dead)
        )
        if unwritten:
            self._spool.logger.log(
                logging.ERROR,
                f"{self.name}: {unwritten} dead letters were kept without their records, which cannot be written",
                key=f"unwritten:{self.name}",
            )

    def _waits_for_file(self, fault: StoreError) -> bool:
        """Whether what has a key should wait until the file can be used: its key may be in there."""
        return not self._ending and not isinstance(fault, (ForeignDatabase, UnencodableRecord))

    def _retry_soon(self, fault: StoreError) -> None:
        self._spool.report(fault)
        self._next_maintenance = min(self._next_maintenance, time.monotonic() + _RETRY_AFTER)

    def _is_empty(self, last: list[int | None]) -> bool:
        """Whether nothing is left up to the last row, which is looked up as soon as the file can be read."""
        if self._fallback.pending:
            return False
        try:
            if not last:
                last.append(self._reader.last_row())
            return not self._reader.unsettled(last[0])
        except StoreError:
            return False

    def _tell_settled(self, entries: Sequence[QueuedRecord]) -> None:
        if self.on_resolved is not None:
            self.on_resolved(entries)
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
