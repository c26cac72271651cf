"""Records that a request has captured and not submitted yet, those that wait for a transaction among them."""

from __future__ import annotations

from contextlib import suppress

from msgspec.structs import replace

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason, Record

__all__ = ["Held", "directed", "drained"]


class Held:
    """Records that wait for the end of a transaction, and those that were rolled back and are not submitted yet."""

    __slots__ = ("rolled_back", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, Record] = {}
        self.rolled_back: list[Record] = []

    def give_up(self) -> list[Record]:
        """Take what waits; what becomes of its transaction does not matter any more."""
        taken: list[Record] = []
        with suppress(KeyError):
            while True:
                taken.append(self.waiting.popitem()[1])
        taken.reverse()
        return taken


def drained(records: list[Record]) -> list[Record]:
    """Take all records, each exactly once even when several threads drain."""
    taken: list[Record] = []
    try:
        while records:
            taken.append(records.pop())
    except IndexError:
        pass  # another thread was quicker
    taken.reverse()
    return taken


def directed(batch: Batch, choice: frozenset[str] | DropReason) -> list[Batch]:
    """Return the batch with the selected destinations set on records that name none, which are dropped on an error."""
    records = batch.records
    if isinstance(choice, DropReason):
        lost = [record for record in records if record.destinations is None]
        named = [record for record in records if record.destinations is not None]
        return [replace(batch, records=lost, drop=batch.drop or choice), replace(batch, records=named)]
    directed = [replace(record, destinations=choice) if record.destinations is None else record for record in records]
    return [replace(batch, records=directed)]
