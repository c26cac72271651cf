"""Notices that a key or an address has changed, while a lane is paused because they were rejected."""

from __future__ import annotations

from sessionsight.delivery.schedule import Job
from sessionsight.destinations.base import Destination

__all__ = ["CredentialWatcher"]

_INTERVAL = 1.0


class CredentialWatcher:
    """Renders the rejected call again, and compares it with what was sent.

    Args:
        destination: Makes the calls; its keys may be callables.
        max_interval: Seconds between checks once changes have not helped: otherwise a key callable that returns a
            new value on every call would defeat the pause.
    """

    def __init__(self, destination: Destination, max_interval: float) -> None:
        self._destination = destination
        self._max_interval = max(max_interval, _INTERVAL)
        self._interval = _INTERVAL
        self._rejected: Job | None = None
        self.next_check = float("inf")
        """When to call `has_changed` again, on the monotonic clock."""

    def start(self, job: Job, now: float) -> None:
        """Watch the call of a rejected job."""
        self._rejected = job.subset(job.entries)
        self._rejected.call, self._rejected.rendered_at = job.call, job.rendered_at
        self.next_check = now + self._interval

    def succeeded(self) -> None:
        """Stop, and start from the shortest interval next time: key and address were accepted."""
        self.stop()
        self._interval = _INTERVAL

    def stop(self) -> None:
        """Stop watching, until the next rejection."""
        self._rejected = None
        self.next_check = float("inf")

    def has_changed(self, now: float) -> bool:
        """Return True, once, when the call would be a different one now."""
        if self._rejected is None or now < self.next_check:
            return False
        self.next_check = now + self._interval
        try:
            calls = list(self._destination.build_requests(self._rejected.entries, now=self._rejected.rendered_at))
        except (Exception, SystemExit):
            return False  # the next probe reports what is wrong
        if calls == [self._rejected.call]:
            return False
        self._interval = min(self._interval * 2, self._max_interval)
        self.stop()
        return True
