"""Console: one line for each record, for developers who want to see what would be sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from sessionsight.capture.encoding import encode
from sessionsight.capture.records import (
    Alias,
    EventRecord,
    FeedbackRecord,
    Goal,
    Group,
    Identify,
    PersonProperties,
    QueuedRecord,
    Record,
)
from sessionsight.destinations.base import Limits, VendorDestination, VendorRequest
from sessionsight.errors import escape_control_characters

__all__ = ["Console"]


class Console(VendorDestination, frozen=True, kw_only=True):
    """Prints records of every kind to stderr, each as one line. Needs no keys.

    Example:
        >>> Console().supports(Goal)
        True
    """

    kinds: ClassVar[frozenset[type[Record]]] = frozenset(
        {EventRecord, Identify, PersonProperties, Alias, Group, Goal, FeedbackRecord}
    )

    name: str = "console"
    """Name of the lane, and the first word of each line."""

    @property
    def limits(self) -> Limits:
        """Limits of the lane: 100 records at a time."""
        return Limits()

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """Return one request whose body has a line for each record."""
        if not entries:
            return []
        text = "".join(f"{self.name}: {' '.join(_fields(entry))}\n" for entry in entries)
        return [VendorRequest(url="console:stderr", headers={}, body=text.encode("utf-8", "replace"), entries=entries)]


def _fields(entry: QueuedRecord) -> Iterator[str]:
    record, context = entry.record, entry.context
    yield record.kind
    match record:
        case EventRecord() | Goal() | FeedbackRecord():
            yield _text(record.label)
        case Alias():
            yield f"alias={_text(record.alias)}"
        case Group():
            yield f"{_text(record.group_type)}={_text(record.group_key)}"
    if isinstance(record, Goal):
        yield f"{'+' if record.direction == 'increment' else '-'}{record.amount}"
    session_id = record.session_id if isinstance(record, Goal | FeedbackRecord) else None
    ids = {
        "user": entry.user_id,
        "distinct": record.distinct_id or context.signal.distinct_id,
        "anonymous": record.anonymous_id or context.anonymous_id or context.sessionsight.visitor_id,
        "session": session_id or context.session_id,
        "path": context.page.path,
    }
    yield from (f"{name}={_text(value)}" for name, value in ids.items() if value)
    if record.properties != b"{}":
        yield escape_control_characters(record.properties.decode())


def _text(value: str) -> str:
    """Return one printable word unchanged, and any other text quoted and escaped."""
    plain = value.isprintable() and " " not in value and '"' not in value
    return value if plain else encode(value).decode() if value.isprintable() else ascii(value)
