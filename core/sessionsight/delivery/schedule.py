"""The jobs of a lane, and the order in which they are sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from msgspec import Struct

from sessionsight.capture.records import Alias, EventRecord, FeedbackRecord, Goal, Group, QueuedRecord
from sessionsight.delivery.before_send import BeforeSendFilter
from sessionsight.delivery.queue.base import LaneQueue
from sessionsight.delivery.stores.base import DeadLetter
from sessionsight.destinations.base import Limits, VendorRequest

__all__ = ["Job", "JobSchedule", "SendOrder"]

# Records that wait for earlier ones about the same person. When there are more the order is given up: one record on
# which a vendor fails for days must not fill the memory with those behind it.
_MAX_BLOCKED = 1_000
_UNORDERED = frozenset({EventRecord, FeedbackRecord, Goal})


class Job(Struct, eq=False, kw_only=True):
    """Entries that are sent in one call, and the history of their attempts.

    It is empty once its entries are settled or belong to other jobs.
    """

    entries: Sequence[QueuedRecord]
    attempts: int = 0
    first_attempt: float | None = None
    """Unix seconds."""
    last_attempt: float | None = None
    not_before: float = 0.0
    """On the monotonic clock, as are the two below."""
    sent_at: float = 0.0
    rejected_at: float | None = None
    """When a call of it was last rejected as if the key or the address were wrong."""
    rejections: int = 0
    """How often that happened although another call had succeeded since."""
    call: VendorRequest | None = None
    rendered_at: float = 0.0
    """Unix seconds."""

    def subset(self, entries: Sequence[QueuedRecord]) -> Job:
        """Return a new job with some of the entries and the same history."""
        return Job(
            entries=entries,
            attempts=self.attempts,
            first_attempt=self.first_attempt,
            last_attempt=self.last_attempt,
            rejected_at=self.rejected_at,
            rejections=self.rejections,
        )

    def split(self) -> list[Job]:
        """Move the entries into two new jobs, half each."""
        entries = self.pop_entries()
        middle = len(entries) // 2
        return [self.subset(entries[:middle]), self.subset(entries[middle:])]

    def dead_letters(
        self, destination: str, entries: Sequence[QueuedRecord], reason: str, message: str, status: int | None
    ) -> list[DeadLetter]:
        """Return dead letters of some of the entries."""
        return [
            DeadLetter(
                destination=destination,
                entry=entry,
                reason=reason,
                message=message,
                status=status,
                attempts=self.attempts,
                first_attempt=self.first_attempt,
                last_attempt=self.last_attempt,
            )
            for entry in entries
        ]

    def pop_entries(self) -> Sequence[QueuedRecord]:
        """Remove and return the entries; the caller accounts for them."""
        entries, self.entries = self.entries, ()
        return entries


class JobSchedule:
    """The jobs of one lane that are not in flight: parts of split jobs come first, then retries, then new jobs.

    Args:
        queue: Where records wait until they are claimed for a job.
        limits: How many of them one call takes.
        linger: Seconds that a record may wait for others to share its call.
        before_send: Receives claimed entries and returns those to send.
    """

    def __init__(self, queue: LaneQueue, limits: Limits, linger: float, before_send: BeforeSendFilter) -> None:
        self._queue = queue
        self._limits = limits
        self._linger = linger
        self._before_send = before_send
        self._parts: deque[Job] = deque()
        self._retries: deque[Job] = deque()
        self._blocked: deque[Job] = deque()
        self._order = SendOrder()
        self._probed_with_new = False
        self.flushing = False
        """Send at once, without lingering."""

    def __contains__(self, job: Job) -> bool:
        """Return True for a job that waits here."""
        return job in self._retries or job in self._parts or job in self._blocked

    def next(self, now: float, *, probing: bool) -> tuple[Job | None, float]:
        """Return the next job, or None and the seconds until there is one.

        Args:
            now: The monotonic clock.
            probing: The vendor is failing, and one call at a time probes whether it still does. Retries are due then,
                however long their delay.
        """
        if self._parts:
            return self._parts.popleft(), 0.0
        if probing and self._retries and self._probe_with_new() and (job := self._claim()) is not None:
            return job, 0.0
        for _ in range(len(self._retries)):
            job = self._retries.popleft()
            if probing or job.not_before <= now:
                return job, 0.0
            self._retries.append(job)
        wait = self._linger_remaining(now)
        if wait <= 0:
            return self._claim(), 0.0
        return None, min([wait, *(job.not_before - now for job in self._retries)])

    def push_front(self, jobs: Sequence[Job]) -> None:
        """Make these jobs the next ones, in this order."""
        self._parts.extendleft(reversed(jobs))

    def schedule_retry(self, job: Job, not_before: float) -> None:
        """Send a job again, at this time (monotonic clock) at the earliest."""
        job.not_before = not_before
        self._retries.append(job)

    def admit(self, job: Job) -> bool:
        """Remove from a job the entries that must wait for earlier ones about the same person or group.

        Returns:
            True if any entry is left to send now.
        """
        ready, blocked = self._order.divide(job.entries)
        if blocked and len(blocked) + sum(len(waiting.entries) for waiting in self._blocked) <= _MAX_BLOCKED:
            self._blocked.append(job.subset(blocked))
            job.entries = ready
        return bool(job.entries)

    def unblock(self, entries: Sequence[QueuedRecord]) -> None:
        """Release what waits for these entries, which were delivered, dropped or dead-lettered."""
        if self._order.remove(entries) and self._blocked:
            self.push_front(self._blocked)
            self._blocked.clear()

    def retry_now(self, now: float) -> None:
        """Make all retries due now."""
        for job in self._retries:
            job.not_before = now

    def _probe_with_new(self) -> bool:
        """Return True for every second probe, while few retries are held.

        The failing records, rather than the vendor, may be the cause; a probe with other records finds out.
        """
        if not self._queue.depth()[0] or len(self._retries) > 4 + 2 * self._limits.concurrency:
            return False
        self._probed_with_new = not self._probed_with_new
        return self._probed_with_new

    def _linger_remaining(self, now: float) -> float:
        """Return the seconds until waiting records are sent without waiting for more."""
        waiting, size, since = self._queue.depth()
        if since is None:
            return float("inf")
        if self.flushing or waiting >= self._limits.max_records or size >= self._limits.max_bytes:
            return 0.0
        return since + self._linger - now

    def _claim(self) -> Job | None:
        entries = self._before_send(self._queue.claim(self._limits.max_records, self._limits.max_bytes))
        self._order.add(entries)
        return Job(entries=entries) if entries else None


class SendOrder:
    """Queues of claimed records whose order matters, one for each subject: a person's id or a group.

    An event has a time by which its vendor can sort. The properties of a person or a group have none: the call that
    arrives last wins, so later calls must wait for one that is retried.

    Records are identified by their random bytes, because a destination may return copies of its entries.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[bytes]] = {}

    def add(self, entries: Iterable[QueuedRecord]) -> None:
        """Append claimed entries. Those whose order does not matter are ignored."""
        for entry in entries:
            if type(entry.record) not in _UNORDERED:
                for subject in _subjects(entry):
                    self._queues.setdefault(subject, deque()).append(entry.record.random)

    def divide(self, entries: Sequence[QueuedRecord]) -> tuple[Sequence[QueuedRecord], Sequence[QueuedRecord]]:
        """Divide the entries of one call into those that may be sent and those that must wait.

        An entry must wait for all earlier ones that share a subject with it, unless they come before it
        in the same call.
        """
        if not self._queues:
            return entries, ()
        ready: list[QueuedRecord] = []
        blocked: list[QueuedRecord] = []
        selected: dict[str, int] = {}
        for entry in entries:
            queues = self._queues_of(entry)
            if all(queue[selected.get(subject, 0)] == entry.record.random for subject, queue in queues):
                selected.update((subject, selected.get(subject, 0) + 1) for subject, _ in queues)
                ready.append(entry)
            else:
                blocked.append(entry)
        return ready, blocked

    def remove(self, entries: Iterable[QueuedRecord]) -> bool:
        """Remove entries that have been delivered, dropped or dead-lettered.

        Returns:
            True if any other entry waited for one of them.
        """
        if not self._queues:
            return False
        unblocked = False
        for entry in entries:
            for subject, queue in self._queues_of(entry):
                with suppress(ValueError):
                    queue.remove(entry.record.random)
                if queue:
                    unblocked = True
                else:
                    del self._queues[subject]
        return unblocked

    def _queues_of(self, entry: QueuedRecord) -> list[tuple[str, deque[bytes]]]:
        if type(entry.record) in _UNORDERED:
            return []
        return [(subject, self._queues[subject]) for subject in _subjects(entry) if subject in self._queues]


def _subjects(entry: QueuedRecord) -> set[str]:
    """Return each id by which a vendor may know the person or the group."""
    record = entry.record
    ids = [record.distinct_id, entry.user_id, entry.context.signal.distinct_id]
    if isinstance(record, Alias):
        ids.append(record.alias)
    subjects = {f"person:{identifier}" for identifier in ids if identifier is not None}
    if isinstance(record, Group):
        subjects.add(f"group:{record.group_type}:{record.group_key}")
    return subjects
