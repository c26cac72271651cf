"""Counters of what happened to the records of a lane.

At rest: captured = delivered + pending + dead + dropped, each drop with its reason. `pending` is measured at the
queue, not computed, so that tests can detect a wrong sum.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["LaneStats", "RecordStatus", "Stats"]


class LaneStats(Struct, frozen=True, kw_only=True):
    """Snapshot of one lane's counters."""

    captured: int
    """Records of a kind that this destination accepts."""
    delivered: int
    pending: int
    """Queued or in flight."""
    dead: int
    """Kept as dead letters."""
    dropped: dict[str, int]
    """Number of records by reason."""
    state: str
    """`closed` (all is well), `open` or `half-open` (failing), `paused` (wrong key or address)."""
    last_error: str | None

    @property
    def balanced(self) -> bool:
        """True if every record is accounted for."""
        return self.captured == self.delivered + self.pending + self.dead + sum(self.dropped.values())


class Stats(Struct, frozen=True, kw_only=True):
    """Snapshot of a client's counters."""

    lanes: dict[str, LaneStats]
    rejected: int
    """Invalid calls, which captured nothing."""
    invalid_ids: dict[str, int]
    """Number of invalid ids by cookie or header; such an id counts as missing."""
    mismatched_ids: int
    """Requests whose `x-signal-distinct-id` was not the signed-in user's id."""


class RecordStatus(Struct, frozen=True, kw_only=True):
    """The state of one record in one lane."""

    state: Literal["pending", "dead", "not_found", "unknown"]
    """`pending`: queued or in flight. `dead`: a dead letter. `not_found`: neither, so it was delivered or dropped, or
    was never in this queue. `unknown`: the queue cannot tell, and `message` says why."""
    reason: str | None = None
    """Of a dead letter: `refused`, `too_large`, `unknown` (it may have arrived), `expired` or `internal_error`."""
    message: str | None = None
    """Of a dead letter: the vendor's error message."""
