"""The seam between a lane and the place where its records wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sessionsight.records import Entry

__all__ = ["LaneQueue", "size_of"]

# What a queued record takes besides its properties, about.
_OVERHEAD = 400


class LaneQueue(Protocol):
    """The waiting records of one lane. Called under the lane's lock only."""

    def put(self, entries: Sequence[Entry]) -> list[Entry]:
        """Add entries; returns those that had to go to keep the bound."""

    def claim(self, max_records: int, max_bytes: int) -> list[Entry]:
        """Take the next entries, at least one if there is any. They stay accounted for until settled."""

    def settle(self, entries: Sequence[Entry]) -> None:
        """These claimed entries are done with: delivered, dead or dropped."""

    def drain(self) -> list[Entry]:
        """Take everything that waits, and settle it."""

    @property
    def waiting(self) -> int:
        """Records that nobody has claimed."""

    @property
    def waiting_bytes(self) -> int:
        """Their size, about."""

    @property
    def pending(self) -> int:
        """Records that are not settled, claimed or not."""


def size_of(entry: Entry) -> int:
    """What an entry counts for in bytes."""
    return len(entry.record.properties) + _OVERHEAD
