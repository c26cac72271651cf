"""Keeps records about one person or group in order, across retries.

An event has a time by which its vendor can sort. The properties of a person or a group have none: the call that arrives
last wins, so later calls must wait for one that is retried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from sessionsight.capture.records import Alias, Event, Goal, Group, QueuedRecord

__all__ = ["SendOrder"]

_UNORDERED = frozenset({Event, Goal})


class SendOrder:
    """Queues of claimed records whose order matters, one for each subject: a person's id or a group.

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
