"""One lane's queue over a store, with a fallback buffer in memory while the store cannot be used."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from msgspec.structs import replace

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.queue.base import SharedStore
from sessionsight.delivery.queue.claims import Claims, ReadyHint, split_stored
from sessionsight.delivery.queue.encoding import decode_claims, decode_dead_letter, failure_of
from sessionsight.delivery.queue.fallback import FallbackBuffer
from sessionsight.delivery.queue.outcomes import PendingOutcomes
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.base import (
    DELIVERED,
    PENDING,
    Claimed,
    DeadLetter,
    DeadLetterQuery,
    Outcome,
    StoredDeadLetter,
    lane_stats,
)
from sessionsight.delivery.stores.errors import AnswerLost, ForeignDatabase, StoreBusy, StoreError, UnencodableRecord

__all__ = ["BUSY_TIMEOUT", "DurableLaneQueue"]

T = TypeVar("T")

# Seconds for which calls that no request waits for may wait for other writers. They are repeated later.
BUSY_TIMEOUT = 0.25
# Seconds between two checks of what is changed without a notification, for instance by other processes.
_POLL_EVERY = 0.05
# The number of entries that one claim takes at most: another process waits for them if this one is stopped.
_MAX_CLAIM = 500
# The number of entries that are claimed at once for a vendor that accepts them one by one.
_PREFETCH = 32


class DurableLaneQueue:
    """The `LaneQueue` of one lane over a store.

    Outcomes are written at once. If that fails they are kept, and written with the next write that succeeds.

    An entry with a key that cannot be written now is deferred until the store can be written, because only the store
    knows whether the key was seen before. At shutdown it is sent all the same, as far as time allows.
    """

    def __init__(self, name: str, spool: SharedStore) -> None:
        self.name = name
        self._spool = spool
        self._store = spool.store
        self.fallback = FallbackBuffer(spool.options, clock=spool.clock)
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._changed = threading.Condition(threading.RLock())
        # Held during transfers to the store, so that nothing is counted twice or not at all. Never held by a request.
        self._transfer_lock = threading.RLock()
        self._outcomes = PendingOutcomes(name, spool.store, spool.logger)
        self._claims = Claims()
        self.ready_hint = ReadyHint(spool.clock)
        self.evicted = 0
        """The number of entries that the store has evicted since the last `pop_evicted_count`."""
        self.on_resolved: Callable[[Sequence[QueuedRecord]], None] | None = None
        self.fallback.sendable.on_resolved = self.fallback.deferred.on_resolved = self._notify_resolved
        self._claim_unknown = False
        # The store's counters at the last successful read.
        self._stored: Counter[str] = Counter()
        self._last_error: str | None = None
        self._ending = False
        self._draining = False
        self._closed = False

    def add_evicted(self, number: int) -> None:
        """Count entries that the store has evicted. The next `pop_evicted_count` returns their number."""
        self.evicted += number

    def maintain(self) -> float:
        """Let the spool maintain all lanes, if that is due."""
        if self._closed:
            return float("inf")
        due = self._spool.maintain_if_due()
        self._check_epoch(self._store.epoch)
        return due

    def can_defer(self, error: StoreError) -> bool:
        """Return whether keyed entries should wait until the store can be used, because it may know their key."""
        return not self._ending and not isinstance(error, (ForeignDatabase, UnencodableRecord))

    def write_pending(self) -> bool:
        """Write pending outcomes, and move the fallback buffer to the store.

        Returns:
            False if the store is busy, so that other lanes should not wait for it as well. They do at shutdown, when
            deferred entries must become sendable.
        """
        if self._closed:
            return True
        self._check_epoch(self._store.epoch)
        return (self.flush_writes() or self._ending) and (self._drain_fallback() or self._ending)

    def depth(self) -> tuple[int, int, float | None]:
        """Return an estimate of the ready entries: their number, their size, and since when the first one is ready."""
        number, size, since = self.fallback.sendable.depth()
        if self._draining:
            return number, size, since
        if (hinted := self.ready_hint.since) is not None:
            number, size = number + self.ready_hint.number, size + self.ready_hint.size
            since = hinted if since is None else min(since, hinted)
        if prefetched := self._claims.prefetched:
            number, since = number + prefetched, 0.0
        return number, size, since

    def claim(self, max_records: int, max_bytes: int) -> Sequence[QueuedRecord]:
        """Claim the next entries: prefetched ones, those in the store, or those in memory."""
        if self._draining:
            return self.fallback.sendable.claim(max_records, max_bytes)
        if not self._claims.prefetched:
            self._claim(min(max(max_records, _PREFETCH), _MAX_CLAIM), max_bytes)
        return self._claims.pop_prefetched(max_records) or self.fallback.sendable.claim(max_records, max_bytes)

    def mark_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> Sequence[QueuedRecord] | None:
        """Return the entries that this process still holds; None if they cannot be marked in the store now.

        A store releases claims in one transaction, except those in flight. So an entry is either marked or not sent.
        """
        held = self._claims.still_held(entries)
        stored, in_memory = split_stored(held)
        if not stored:
            return held
        try:
            with self._transfer_lock:
                if self._draining:
                    return in_memory
                if not durably:
                    if len(held) == len(entries):  # otherwise they are not sent in this call
                        self._claims.begin_unmarked(stored)
                    return held
                self._outcomes.write(timeout=BUSY_TIMEOUT)  # an older one may clear the same flag
                epoch, marked = self._store.mark_in_flight(self.name, _handles(stored), timeout=BUSY_TIMEOUT)
                self._claims.mark_in_flight(stored, marked, epoch=epoch)
        except StoreError as error:
            self._spool.log_error(error)
            return None
        return [entry for entry in held if not entry.handle or entry.handle in marked]

    def clear_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> None:
        """Report that entries are no longer in flight, and not resolved either. A stored flag is cleared."""
        stored, _ = split_stored(entries)
        if not durably:
            self._claims.end_unmarked(stored)
            if len(stored) == 1:  # it may be a suspect on trial
                self._write(Outcome(handles=_handles(stored)))
        elif stored and not self._closed:
            lost = self._claims.clear_in_flight(stored)
            self._write(Outcome(handles=_handles(stored)))
            self._spool.enqueue_again(self.name, lost)

    def ack(self, entries: Sequence[QueuedRecord]) -> None:
        """Remove delivered entries."""
        stored, in_memory = split_stored(entries)
        self._resolve(stored, Outcome(handles=_handles(stored), counter=DELIVERED))
        self.fallback.sendable.ack(in_memory)

    def drop(self, entries: Sequence[QueuedRecord], reason: DropReason) -> None:
        """Remove entries that will not be sent."""
        stored, in_memory = split_stored(entries)
        self._resolve(stored, Outcome(handles=_handles(stored), counter=reason.value))
        self.fallback.sendable.drop(in_memory, reason)

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Remove entries that cannot be delivered, and keep them as dead letters."""
        stored = [letter for letter in letters if letter.entry.handle]
        outcomes = [Outcome(handles=[letter.entry.handle], failure=failure_of(letter)) for letter in stored]
        self._resolve([letter.entry for letter in stored], *outcomes)
        self.fallback.sendable.dead_letter([letter for letter in letters if not letter.entry.handle])

    def set_last_error(self, message: str | None) -> None:
        """Set the last error for statistics."""
        self._last_error = message

    def pop_evicted_count(self) -> int:
        """Return the number of evicted entries since the last call."""
        evicted, self.evicted = self.evicted, 0
        return evicted + self.fallback.pop_evicted_count()

    def begin_shutdown(self) -> None:
        """Send deferred entries as well from now on, unless the store accepts them."""
        self._ending = True
        self._spool.maintain_soon()

    def join(self, deadline: float) -> bool:
        """Wait until all entries that are there now are resolved, except those that other processes have claimed.

        While the store cannot be read, they count as not resolved. At shutdown, later entries are left to other
        processes, and entries in flight are waited for, because they would become dead letters otherwise.
        """
        last: list[int] = []
        while not self._is_empty(last):
            if not self._wait(deadline):
                return False
        with self._transfer_lock:  # so that an entry is counted as in flight by now, or not sent
            self._draining = self._ending
        while self._draining and self._claims.in_flight and self._wait(deadline):
            pass
        return True

    def close(self) -> int:
        """Accept no more entries. Those in the store stay there for other processes.

        Returns:
            The number of entries in memory that are lost because the store does not accept them now either.
        """
        if self._closed:
            return 0
        self.flush_writes()
        self._drain_fallback()
        self._closed = True
        self._claims.close()
        return self.fallback.close() + self._spool.unconfirmed(self.name)[PENDING]

    def drop_prefetched(self, user_id: str, reason: DropReason) -> int:
        """Drop the entries about a user that are claimed and not used yet, and return their number."""
        entries = self._claims.remove_prefetched(user_id)
        self.drop(entries, reason)
        return len(entries)

    def owned_or_ready(self, handles: Sequence[int]) -> Collection[int]:
        """Return those of the handles that no other process has claimed; all while the store cannot be read."""
        with contextlib.suppress(StoreError):
            return self._store.owned_or_ready(self.name, handles, timeout=BUSY_TIMEOUT)
        return {*handles}

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters, oldest first."""
        self.flush_writes()
        found = self.fallback.sendable.dead_letters()
        with contextlib.suppress(StoreError):
            stored = self._read(
                lambda: self._store.find(DeadLetterQuery(lane=self.name)), default=list[StoredDeadLetter]()
            )
            found = [*filter(None, map(decode_dead_letter, stored)), *found]
        return found

    @property
    def pending(self) -> int:
        """The number of entries in memory. Those in the store that no other process has claimed count as one.

        So does a store that cannot be read.
        """
        if not self._spool.maintained:  # entries that dead processes had claimed count as well
            self._spool.maintain()
        with contextlib.suppress(StoreError):
            return self._in_memory + (self._unresolved() is not None)
        return self._in_memory + 1

    def snapshot(self, state: str) -> LaneStats:
        """Return the counters of all processes, with those in memory.

        While the store cannot be read, they are those of the last successful read, and `last_error` says so.
        """
        last_error = self._last_error
        with self._transfer_lock:
            self.flush_writes()
            in_memory = self.fallback.counts() + self._spool.unconfirmed(self.name)
            try:
                self._stored = self._read(lambda: self._store.counts(self.name), default=Counter())
            except StoreError as error:
                last_error = f"the spool cannot be read: {error}"
        return lane_stats(self._stored + in_memory, state=state, last_error=last_error)

    def _claim(self, max_records: int, max_bytes: int) -> None:
        if self._closed:
            return
        self.ready_hint.reset()
        try:
            claimed = (
                self._find_claimed()
                if self._claim_unknown
                else self._store.claim(self.name, max_records=max_records, max_bytes=max_bytes, timeout=BUSY_TIMEOUT)
            )
        except StoreError as error:
            self._claim_unknown |= isinstance(error, AnswerLost)
            self._spool.retry_soon(error)
            return
        self._claim_unknown = False
        self._check_epoch(claimed.epoch)
        if claimed.more:
            self.ready_hint.add(1, 0)
        entries, unreadable = decode_claims(claimed.claims)
        self._claims.add(entries)
        with self._transfer_lock:
            self._outcomes.add_unreadable(unreadable)

    def _find_claimed(self) -> Claimed:
        """Return what an earlier call has claimed whose answer was lost."""
        with self._transfer_lock:
            self._outcomes.write(timeout=BUSY_TIMEOUT)  # otherwise their records would be found
            found = self._store.claimed(self.name)
            return replace(found, claims=[claim for claim in found.claims if not self._claims.holds(claim.handle)])

    def _check_epoch(self, epoch: int) -> None:
        """If the store was replaced, enqueue the entries again that were claimed in it."""
        self._spool.enqueue_again(self.name, self._claims.switch_epoch(epoch))

    def _resolve(self, entries: Sequence[QueuedRecord], *outcomes: Outcome) -> None:
        """End the claims of entries in the store, and write their outcomes."""
        if entries:
            self._claims.resolve(entries)
            self._write(*outcomes)
            self._notify_resolved(entries)

    def _write(self, *outcomes: Outcome) -> None:
        if not self._closed:
            with self._transfer_lock:
                self._outcomes.add(*outcomes)
            self.flush_writes()

    def flush_writes(self) -> bool:
        """Write the pending outcomes, or retry soon. Return False if the store is busy."""
        with self._transfer_lock:
            try:
                if not self._closed:
                    self._outcomes.write(timeout=BUSY_TIMEOUT)
            except StoreError as error:
                self._spool.retry_soon(error)
                return not isinstance(error, StoreBusy)
        return True

    def _drain_fallback(self) -> bool:
        """Move entries and counts from the fallback buffer to the store. Return False if the store is busy."""
        with self._transfer_lock:
            try:
                self.fallback.drain_to(self._spool, self.name)
            except StoreError as error:
                self._spool.retry_soon(error)
                if not self.can_defer(error):
                    self.fallback.release_deferred()
                return not isinstance(error, StoreBusy)
        return True

    def _is_empty(self, last: list[int]) -> bool:
        """Return whether no entry is left up to the newest one, which is read once and kept in `last`."""
        with contextlib.suppress(StoreError):
            if self._in_memory:
                return False
            if (found := self._unresolved()) is None:
                return True
            last += [] if last else [found[1]]
            return found[0] > last[0]
        return False

    @property
    def _in_memory(self) -> int:
        """The number of entries in memory. Those of a write that may be in the store are counted until that is known.

        An entry moves from the fallback buffer to such a write, and on to the store, so they are counted in this order.
        """
        return self.fallback.pending + self._spool.unconfirmed(self.name)[PENDING]

    def _unresolved(self) -> tuple[int, int] | None:
        return self._read(lambda: self._store.unresolved(self.name), default=None)

    def _read(self, read: Callable[[], T], *, default: T) -> T:
        """Read from the store. Return the default if it cannot contain our records.

        Raises:
            StoreError: It cannot be read, which was logged.
        """
        try:
            return read()
        except StoreError as error:
            self._spool.log_error(error)
            if isinstance(error, ForeignDatabase):
                return default
            raise

    def _wait(self, deadline: float) -> bool:
        """Wait until an entry is resolved or it is time to poll, and return whether the deadline is not reached."""
        remaining = deadline - self._spool.clock.monotonic()
        if remaining <= 0 or self._closed:
            return False
        with self._changed:
            self._changed.wait(min(remaining, _POLL_EVERY))
        return True

    def _notify_resolved(self, entries: Sequence[QueuedRecord]) -> None:
        if self.on_resolved is not None:
            self.on_resolved(entries)
        with self._changed:
            self._changed.notify_all()


def _handles(entries: Sequence[QueuedRecord]) -> list[int]:
    return [entry.handle for entry in entries]
