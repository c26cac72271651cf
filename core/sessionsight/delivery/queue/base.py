"""The seam between delivery and the place where records wait: one spool a process, one set of books a lane."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.stats import LaneStats

__all__ = ["Books", "DeadLetter", "Share", "Spool"]


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


class Books(Protocol):
    """What one lane holds and owes: its queue, its ledger, its dead letters, its keys.

    Used by any thread. Every change keeps the ledger's sum. An entry that was claimed is pending until
    one of `delivered`, `dropped` and `died` has been told of it, which is by the thread that claimed it.
    """

    on_settled: Callable[[Sequence[QueuedRecord]], None] | None
    """Told of each entry that is delivered, dropped or dead here, so that a request may wait for it."""

    def waiting(self) -> tuple[int, int, float | None]:
        """How many records nobody has claimed, their bytes, and since when (monotonic clock) the first one waits."""

    def claim(self, max_records: int, max_bytes: int) -> Sequence[QueuedRecord]:
        """Take the next entries to be sent, goals first; at least one if there is any."""

    def tend(self) -> float:
        """See to what other processes have left over, and to what could not be done before; called at each turn.

        Returns:
            When to come again at the latest, on the monotonic clock.
        """

    def sending(self, entries: Sequence[QueuedRecord], *, mark: bool) -> Sequence[QueuedRecord] | None:
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

    def unsent(self, entries: Sequence[QueuedRecord]) -> None:
        """These have come back, and certainly have not arrived."""

    def delivered(self, entries: Sequence[QueuedRecord]) -> None:
        """These have arrived."""

    def dropped(self, entries: Sequence[QueuedRecord], reason: DropReason) -> None:
        """These will not be sent, and are not kept."""

    def died(self, letters: Sequence[DeadLetter]) -> None:
        """These cannot be delivered, and are kept as dead letters."""

    def failed(self, message: str | None) -> None:
        """Remember what went wrong last, for statistics; None once all is well."""

    def take_evicted(self) -> int:
        """How many records a full queue has cost since the last call."""

    def last_call(self) -> None:
        """The process ends soon: hold nothing back any more."""

    def wait_until_empty(self, deadline: float) -> bool:
        """Wait until nothing of this process is pending, or until the deadline on the monotonic clock."""

    def still_ours(self, records: Sequence[int]) -> Collection[int]:
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

    def read(self, state: str) -> LaneStats:
        """The ledger as a value.

        Args:
            state: The lane's, as it is to stand in there.
        """


class Share(Struct, frozen=True):
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

    def books(self, lane: str) -> Books:
        """The books of the lane of this name; the same ones at each call."""

    def enter(self, shares: Sequence[Share]) -> Mapping[tuple[str, bytes], int] | None:
        """Take records in, for all lanes in one step, and count those that were dropped at the door.

        Returns:
            A lane and a record's random bytes, to the row where other processes find it; a record that was refused as
            a duplicate has none. None where no other process can deliver them.
        """

    def close(self) -> None:
        """All books are closed: let go of what the spool holds open."""
