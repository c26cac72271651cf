"""The jobs of a lane, and which of them goes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sessionsight.capture.records import QueuedRecord
from sessionsight.delivery.before_send import LastLook
from sessionsight.delivery.jobs import Job
from sessionsight.delivery.order import SendOrder
from sessionsight.delivery.queue.base import LaneQueue
from sessionsight.destinations.base import Limits

__all__ = ["Agenda"]

# Records that wait for their order. Beyond so many the order gives way: one record that a vendor fails on for days
# must not fill the memory with those behind it.
_MAX_BLOCKED = 1_000


class Agenda:
    """The jobs of one lane that are not under way: parts of others, then those that are tried again, then new ones.

    Args:
        queue: Where records wait until they are claimed for a job.
        limits: How many of them one call takes.
        linger: Seconds that a record may wait for others to share its call.
        last_look: Given what is claimed; gives what of it is sent.
    """

    def __init__(self, queue: LaneQueue, limits: Limits, linger: float, last_look: LastLook) -> None:
        self._queue = queue
        self._limits = limits
        self._linger = linger
        self._last_look = last_look
        self._parts: deque[Job] = deque()
        self._retries: deque[Job] = deque()
        self._blocked: deque[Job] = deque()
        self._order = SendOrder()
        self._probed_with_new = False
        self.hurry = False
        """Send at once what would otherwise wait for company: somebody is flushing."""

    def __contains__(self, job: Job) -> bool:
        """Whether it is among them."""
        return job in self._retries or job in self._parts or job in self._blocked

    def next(self, now: float, *, probing: bool) -> tuple[Job | None, float]:
        """The next job, or how many seconds until there is one.

        Args:
            now: The monotonic clock.
            probing: The vendor is failing, and one call at a time finds out whether it still does. What waits
                for another try is due then, however long it was to wait.
        """
        if self._parts:
            return self._parts.popleft(), 0.0
        if probing and self._retries and self._is_turn_of_new() and (job := self._claim()) is not None:
            return job, 0.0
        for _ in range(len(self._retries)):
            job = self._retries.popleft()
            if probing or job.not_before <= now:
                return job, 0.0
            self._retries.append(job)
        wait = self._until_ripe(now)
        if wait <= 0:
            return self._claim(), 0.0
        return None, min([wait, *(job.not_before - now for job in self._retries)])

    def put_parts(self, jobs: Sequence[Job]) -> None:
        """Parts of a job that goes in several calls are the next ones, in this order."""
        self._parts.extendleft(reversed(jobs))

    def put_off(self, job: Job, not_before: float) -> None:
        """A job is tried again, at this time (monotonic clock) at the earliest."""
        job.not_before = not_before
        self._retries.append(job)

    def admit(self, job: Job) -> bool:
        """Take out of a job what must wait for earlier records about the same person or group.

        Returns:
            Whether anything is left to send now.
        """
        ready, blocked = self._order.divide(job.entries)
        if blocked and len(blocked) + sum(len(waiting.entries) for waiting in self._blocked) <= _MAX_BLOCKED:
            self._blocked.append(job.part(blocked))
            job.entries = ready
        return bool(job.entries)

    def settled(self, entries: Sequence[QueuedRecord]) -> None:
        """These entries are delivered, dropped or dead-lettered. What waited for them comes next, in its order."""
        if self._order.remove(entries) and self._blocked:
            self.put_parts(self._blocked)
            self._blocked.clear()

    def bring_forward(self, now: float) -> None:
        """What waits for another try is due now."""
        for job in self._retries:
            job.not_before = now

    def _is_turn_of_new(self) -> bool:
        """Whether a probe should try other records: perhaps it is not the vendor that is ill, but what we hold.

        Every second probe does, while what is held for retries stays little.
        """
        if not self._queue.depth()[0] or len(self._retries) > 4 + 2 * self._limits.concurrency:
            return False
        self._probed_with_new = not self._probed_with_new
        return self._probed_with_new

    def _until_ripe(self, now: float) -> float:
        """Seconds until what waits should be sent without waiting for more."""
        waiting, size, since = self._queue.depth()
        if since is None:
            return float("inf")
        if self.hurry or waiting >= self._limits.max_records or size >= self._limits.max_bytes:
            return 0.0
        return since + self._linger - now

    def _claim(self) -> Job | None:
        entries = self._last_look(self._queue.claim(self._limits.max_records, self._limits.max_bytes))
        self._order.add(entries)
        return Job(entries=entries) if entries else None
