"""Finds out that a key or an address has changed, while a lane pauses because they were refused."""

from __future__ import annotations

from sessionsight.delivery.jobs import Job
from sessionsight.destinations.base import Destination

__all__ = ["KeyWatch"]

_EVERY = 1.0


class KeyWatch:
    """Compares the refused call with what it would be today.

    Args:
        destination: Makes the calls; its keys may be functions.
        slowest: Seconds between looks, once changes have not helped: a key that is another one each time
            would otherwise make a pause useless.
    """

    def __init__(self, destination: Destination, slowest: float) -> None:
        self._destination = destination
        self._slowest = max(slowest, _EVERY)
        self._every = _EVERY
        self._refused: Job | None = None
        self.next_look = float("inf")
        """When to call `has_changed` again, on the monotonic clock."""

    def refused(self, job: Job, now: float) -> None:
        """From now on, look whether this job's call has changed."""
        self._refused = job.part(job.entries)
        self._refused.call, self._refused.rendered_at = job.call, job.rendered_at
        self.next_look = now + self._every

    def accepted(self) -> None:
        """Key and address are right."""
        self.forget()
        self._every = _EVERY

    def forget(self) -> None:
        """Look no more, until the next refusal."""
        self._refused = None
        self.next_look = float("inf")

    def has_changed(self, now: float) -> bool:
        """Whether the call is another one now; then there is nothing more to watch."""
        if self._refused is None or now < self.next_look:
            return False
        self.next_look = now + self._every
        try:
            calls = list(self._destination.build_requests(self._refused.entries, now=self._refused.rendered_at))
        except (Exception, SystemExit):
            return False  # the next probe will say what is wrong
        if calls == [self._refused.call]:
            return False
        self._every = min(self._every * 2, self._slowest)
        self.forget()
        return True
