"""What became of every record of a lane.

At rest: captured = delivered + pending + dead + dropped, each drop with its reason. `pending` is
measured at the queue, not computed, so that the sum can be wrong and tests can see it.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from sessionsight.capture.records import DropReason

__all__ = ["LaneStats", "Ledger", "Stats"]


class LaneStats(Struct, frozen=True, kw_only=True):
    """One lane's ledger at one moment."""

    captured: int
    """Records that this destination has a place for."""
    delivered: int
    pending: int
    """Waiting, or on their way."""
    dead: int
    """Kept as dead letters."""
    dropped: dict[str, int]
    """Reason to number."""
    state: str
    """`closed` (all is well), `open` or `half-open` (failing), `paused` (wrong key or address)."""
    last_error: str | None

    @property
    def balanced(self) -> bool:
        """Whether every record is accounted for."""
        return self.captured == self.delivered + self.pending + self.dead + sum(self.dropped.values())


class Stats(Struct, frozen=True, kw_only=True):
    """A client's ledger at one moment."""

    lanes: dict[str, LaneStats]
    rejected: int
    """Wrong calls, which captured nothing."""
    refused_ids: dict[str, int]
    """Cookie or header to the number of ids that no vendor would take, counted as missing."""
    mismatched_ids: int
    """Requests whose `x-signal-distinct-id` was not the signed-in user's id."""


class Ledger:
    """The counts of one lane. Not locked: its lane is."""

    __slots__ = ("captured", "dead", "delivered", "dropped", "last_error")

    def __init__(self) -> None:
        self.captured = 0
        self.delivered = 0
        self.dead = 0
        self.dropped: Counter[DropReason] = Counter()
        self.last_error: str | None = None

    def read(self, *, pending: int, state: str) -> LaneStats:
        """The counts as a value."""
        return LaneStats(
            captured=self.captured,
            delivered=self.delivered,
            pending=pending,
            dead=self.dead,
            dropped={str(reason): number for reason, number in self.dropped.items()},
            state=state,
            last_error=self.last_error,
        )
