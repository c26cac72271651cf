"""The seam between delivery and the place where records wait: one spool a process, one set of queue a lane."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.stats import LaneStats

__all__ = ["DeadLetter", "LaneBatch", "LaneQueue", "Spool"]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that could not be delivered, kept with the reason."""

    destination: str
    entry: QueuedRecord
    reason: str
    """`refused`, `too_large`, `unknown` (it may have arrived), `expired` or `internal_error`."""
    message: str
    """The vendor's own words."""
    status: int | None
    attempts: int
    first_attempt: float | None
    """Unix seconds; None when it never left."""
    last_attempt: float | None


class LaneQueue(Protocol):
    """What one lane holds and owes: its queue, its ledger, its dead letters, its keys.

    Used by any thread. Every change keeps the ledger's sum. An entry that was claimed is pending until
    one of `delivered`, `dropped` and `died` has been told of it, which is by the thread that claimed it.
    """

    on_resolved: Callable[[Sequence[QueuedRecord]], None] | None
    """Told of each entry that is delivered, dropped or dead here, so that a request may wait for it."""

    def depth(self) -> tuple[int, int, float | None]:
        """How many records nobody has claimed, their bytes, and since when (monotonic clock) the first one waits."""

    def claim(self, max_records: int, max_bytes: int) -> Sequence[QueuedRecord]:
        """Take the next entries to be sent, goals first; at least one if there is any."""

    def maintain(self) -> float:
        """See to what other processes have left over, and to what could not be done before; called at each turn.

        Returns:
            When to come again at the latest, on the monotonic clock.
        """

    def mark_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> Sequence[QueuedRecord] | None:
        """Fence before the wire: return those of the claimed entries that this process still holds.

        Only these may be sent. The others were given back, to this process or to another one, and are claimed again
        by whoever sends them.

        Args:
            entries: What goes on the wire next, in one call.
            mark: Record durably that the entries are in flight. If the process dies before their outcome is known,
                they become dead letters (`unknown`) and are not sent again.

        Returns:
            The entries that may be sent, in the same order; None when the mark cannot be written now, so that all of
            them must wait.
        """

    def clear_in_flight(self, entries: Sequence[QueuedRecord]) -> None:
        """These have come back, and certainly have not arrived."""

    def ack(self, entries: Sequence[QueuedRecord]) -> None:
        """These have arrived."""

    def drop(self, entries: Sequence[QueuedRecord], reason: DropReason) -> None:
        """These will not be sent, and are not kept."""

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """These cannot be delivered, and are kept as dead letters."""

    def set_last_error(self, message: str | None) -> None:
        """Remember what went wrong last, for statistics; None once all is well."""

    def pop_evicted_count(self) -> int:
        """How many records a full queue has cost since the last call."""

    def begin_shutdown(self) -> None:
        """The process ends soon: hold nothing back any more."""

    def join(self, deadline: float) -> bool:
        """Wait until nothing of this process is pending, or until the deadline on the monotonic clock."""

    def owned_or_ready(self, records: Sequence[int]) -> Collection[int]:
        """Which of these rows, as `Spool.enter` has given them, wait for this process or for anybody."""

    def close(self) -> int:
        """Accept nothing more.

        Returns:
            How many pending records are lost by that, and counted so.
        """

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters, oldest first."""

    @property
    def pending(self) -> int:
        """Records of this process that are not settled."""

    def snapshot(self, state: str) -> LaneStats:
        """The ledger as a value.

        Args:
            state: The lane's, as it is to stand in there.
        """


class LaneBatch(Struct, frozen=True):
    """One lane's part of what a request has handed over."""

    lane: str
    entries: Sequence[QueuedRecord]
    """What the lane takes."""
    dropped: Sequence[DropReason] = ()
    """Why it does not take others that it has a place for."""


class Spool(Protocol):
    """Where the records of one process wait for its lanes."""

    @property
    def durable(self) -> bool:
        """Whether what waits survives the process; then `enter` writes it down, and may take its time."""

    def lane(self, lane: str) -> LaneQueue:
        """The queue of the lane of this name; the same ones at each call."""

    def enqueue(self, shares: Sequence[LaneBatch]) -> Mapping[tuple[str, bytes], int] | None:
        """Take records in, for all lanes in one step, and count those that were dropped at the door.

        Returns:
            A lane and a record's random bytes, to the row where other processes find it; a record that was refused as
            a duplicate has none. None where no other process can deliver them.
        """

    def close(self) -> None:
        """All queue is closed: let go of what the spool holds open."""
