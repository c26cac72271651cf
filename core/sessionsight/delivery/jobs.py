"""What a dispatcher has in hand: some entries that are sent in one call, and how that has gone so far."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sessionsight.capture.records import QueuedRecord
from sessionsight.delivery.queue.base import DeadLetter
from sessionsight.destinations.base import VendorRequest

__all__ = ["Job"]


class Job(Struct, eq=False, kw_only=True):
    """Entries for one call. When they are settled, or given to other jobs, it has none left."""

    entries: Sequence[QueuedRecord]
    attempts: int = 0
    first_attempt: float | None = None
    """Unix seconds."""
    last_attempt: float | None = None
    not_before: float = 0.0
    """On the monotonic clock, as are the two below."""
    launched_at: float = 0.0
    refused_at: float | None = None
    """When it was last refused as if the key or the address were wrong."""
    blamed: int = 0
    """How often that happened although another call went through since."""
    call: VendorRequest | None = None
    rendered_at: float = 0.0
    """Unix seconds."""

    def part(self, entries: Sequence[QueuedRecord]) -> Job:
        """Some of the entries as a job of their own, with the same history."""
        return Job(
            entries=entries,
            attempts=self.attempts,
            first_attempt=self.first_attempt,
            last_attempt=self.last_attempt,
            refused_at=self.refused_at,
            blamed=self.blamed,
        )

    def halves(self) -> list[Job]:
        """Both halves of the entries; nothing is left here."""
        entries = self.take()
        middle = len(entries) // 2
        return [self.part(entries[:middle]), self.part(entries[middle:])]

    def letters(
        self, destination: str, entries: Sequence[QueuedRecord], reason: str, message: str, status: int | None
    ) -> list[DeadLetter]:
        """Dead letters of some of the entries."""
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

    def take(self) -> Sequence[QueuedRecord]:
        """The entries, for whoever accounts for them from now on."""
        entries, self.entries = self.entries, ()
        return entries
