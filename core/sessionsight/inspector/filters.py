"""Which records are wanted: a value made of query parameters, the same on pages, in the API and in streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from sessionsight.inspector.model import KINDS, VENDORS, InspectedRecord, Kind, Vendor

__all__ = ["MAX_ID", "Filter", "FilterError", "problem"]

MAX_ID = 2**63 - 1

Status = Literal["accepted", "refused"]

_KNOWN: dict[str, tuple[str, ...]] = {"vendor": VENDORS, "kind": KINDS, "status": get_args(Status)}


class FilterError(ValueError):
    """A query parameter has a value that it cannot have."""


class Filter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which records are wanted; what is None does not matter.

    Example:
        >>> Filter.from_query({"vendor": "signal", "text": "", "page": "2"}).to_query()
        {'vendor': 'signal'}
    """

    vendor: Vendor | None = None
    kind: Kind | None = None
    status: Status | None = None
    session: str | None = None
    """Id of a session of any vendor."""
    visitor: str | None = None
    user: str | None = None
    event: str | None = None
    """Exact name of an event or id of a goal."""
    text: str | None = None
    """Text anywhere in the record as it was sent; ASCII letters match in any case."""
    since: float | None = None
    """Received at this time or later, in Unix seconds. Queries may use ISO 8601 as well."""
    until: float | None = None
    """Received before this time."""
    after: Annotated[int, Meta(ge=0, le=MAX_ID)] | None = None
    """Newer than the record of this id."""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Filter:
        """Create a filter from query parameters, ignoring empty and unknown ones.

        Raises:
            FilterError: A value is wrong.
        """
        given: dict[str, Any] = {name: query[name] for name in cls.__struct_fields__ if query.get(name)}
        for name in ("since", "until"):
            if name in given:
                given[name] = _seconds(name, given[name])
        for name, known in _KNOWN.items():
            if name in given and given[name] not in known:
                raise FilterError(f"{name}: must be {', '.join(known[:-1])} or {known[-1]}, not {given[name]!r}")
        if given.get("after", "").lower() == "null":  # which msgspec would read as None
            raise FilterError(f"after: must not be {given['after']!r}")
        try:
            return msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError as error:
            raise FilterError(problem(error)) from None

    def to_query(self) -> dict[str, str]:
        """Return the query parameters of this filter."""
        return {name: str(value) for name, value in msgspec.to_builtins(self).items()}

    def matches(self, record: InspectedRecord) -> bool:
        """Return whether a record matches."""
        exact = (
            (self.vendor, record.vendor),
            (self.kind, record.kind),
            (self.session, record.session_id),
            (self.visitor, record.visitor_id),
            (self.user, record.user_id),
            (self.event, record.name),
        )
        return (
            all(wanted is None or wanted == value for wanted, value in exact)
            and (self.status is None or (self.status == "accepted") == record.accepted)
            and (self.since is None or record.received_at >= self.since)
            and (self.until is None or record.received_at < self.until)
            and (self.after is None or record.id > self.after)
            and (self.text is None or self.text.encode().lower() in msgspec.json.encode(record.raw).lower())
        )


def problem(error: msgspec.ValidationError) -> str:
    """Return the parameter with the error.

    Example:
        >>> problem(msgspec.ValidationError("Expected `int`, got `str` - at `$.after`"))
        'after: Expected `int`, got `str`'
    """
    what, _, where = str(error).partition(" - at `$.")
    return f"{where.rstrip('`')}: {what}"


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = _parsed(text)
    if not math.isfinite(seconds):
        raise FilterError(f"{name}: must be Unix seconds or an ISO 8601 time, not {text!r}")
    return seconds


def _parsed(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        return math.nan
