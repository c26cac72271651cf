"""Records that a request has captured and not submitted yet."""

from __future__ import annotations

from contextlib import suppress

from msgspec.structs import replace

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason, Record

__all__ = ["DeferredRecords", "apply_selection", "drain"]


class DeferredRecords:
    """Records that wait for the end of a transaction, and those that were rolled back and are not submitted yet."""

    __slots__ = ("pending", "rolled_back")

    def __init__(self) -> None:
        self.pending: dict[int, Record] = {}
        self.rolled_back: list[Record] = []

    def drain(self) -> list[Record]:
        """Remove and return the waiting records, whatever becomes of their transactions."""
        records: list[Record] = []
        with suppress(KeyError):
            while True:
                records.append(self.pending.popitem()[1])
        records.reverse()
        return records


def drain(records: list[Record]) -> list[Record]:
    """Remove and return all records, each exactly once even when several threads do so."""
    drained: list[Record] = []
    try:
        while records:
            drained.append(records.pop())
    except IndexError:
        pass  # another thread was quicker
    drained.reverse()
    return drained


def apply_selection(batch: Batch, selected: frozenset[str] | DropReason) -> list[Batch]:
    """Set the selected destinations on records that name none; without a selection, mark those as dropped."""
    records = batch.records
    if isinstance(selected, DropReason):
        unnamed = [record for record in records if record.destinations is None]
        named = [record for record in records if record.destinations is not None]
        return [replace(batch, records=unnamed, drop=batch.drop or selected), replace(batch, records=named)]
    directed = [replace(record, destinations=selected) if record.destinations is None else record for record in records]
    return [replace(batch, records=directed)]
