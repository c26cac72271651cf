"""Determines the destinations that a record would be sent to, and those that would skip it, without delivering it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache

from sessionsight.capture.records import DropReason, Record, record_id
from sessionsight.destinations import from_options
from sessionsight.destinations.base import Destination
from sessionsight.request.context import TrackingContext

__all__ = ["TEST_KEYS", "SeenKeys", "lanes_of", "skipping"]


TEST_KEYS: dict[str, dict[str, str]] = {
    "sessionsight": {"secret_api_key": "test", "property_id": "test"},
    "signal": {"api_key": "test", "project_id": "test"},
    "saytics": {"secret_key": "test"},
    "analyse": {"public_key": "test"},
}
"""The required options of each vendor, with keys that only an inspector accepts."""


@cache
def _vendors() -> tuple[Destination, ...]:
    """Return a destination of each vendor, for clients without destinations, as in many tests."""
    return tuple(from_options(name, keys) for name, keys in TEST_KEYS.items())


def lanes_of(record: Record, destinations: Sequence[Destination]) -> Sequence[Destination]:
    """Return the destinations that accept this kind of record, among those that the call names."""
    named = record.destinations
    return [
        one for one in destinations or _vendors() if (named is None or one.name in named) and one.supports(type(record))
    ]


def skipping(record: Record, context: TrackingContext, lanes: Sequence[Destination]) -> Mapping[str, DropReason]:
    """Return the names of the destinations that would drop this record, with their reasons."""
    reasons = ((one.name, one.drop_reason(record, context)) for one in lanes)
    return {name: reason for name, reason in reasons if reason is not None}


class SeenKeys:
    """Remembers the idempotency keys of each destination, as lanes do, but permanently."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, set[str]] = {}

    def is_repeated(self, record: Record, lanes: Sequence[Destination]) -> bool:
        """Add the record's key to these destinations, and return whether all of them already had it."""
        if record.key is None:
            return False
        names = {one.name for one in lanes} or {""}
        with self._lock:
            seen = self._seen.setdefault(record_id(record), set())
            repeated = names <= seen
            seen |= names
        return repeated
