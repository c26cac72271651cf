"""A captured record, decoded for assertions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from sessionsight.capture.encoding import decode
from sessionsight.capture.records import Amount, DropReason, FeedbackRecord, Goal, Record
from sessionsight.request.context import TrackingContext

__all__ = ["CapturedRecord"]


class CapturedRecord(Struct, frozen=True, kw_only=True):
    """A captured record, with its properties decoded from the JSON that would be sent.

    Dates, ids and enums are strings, and numbers with a fraction are Decimals.
    """

    kind: str
    """`"event"`, `"identify"`, `"goal"`, `"feedback"`, `"alias"`, `"group"` or `"person_properties"`."""
    name: str
    """The event's name, the goal's id or the feedback type; for other records their kind."""
    properties: dict[str, Any]
    """The event's properties, the person's traits, the goal's metadata, or `option`, `message` and `metadata` of
    feedback."""
    user_id: str | None
    """The user given with the call, otherwise the request's."""
    session_id: str | None
    """SessionSight's session: the one given with the call, otherwise the request's."""
    context: TrackingContext
    """All ids of the request, and its page."""
    amount: Amount | None = None
    """The amount of a goal, 1 by default."""
    direction: Literal["increment", "decrement"] | None = None
    """The direction of a goal."""
    record: Record
    """The record itself, with the other options of the call: `key`, `destinations`, `time`, `groups`."""
    dropped: DropReason | None = None
    """The reason why it would not be sent to any vendor, such as missing consent."""
    skipped: dict[str, DropReason] = {}
    """Reasons by destination that it would not be sent to, such as `{"sessionsight": "no_session"}`."""

    @classmethod
    def of(
        cls,
        record: Record,
        context: TrackingContext,
        dropped: DropReason | None = None,
        skipped: Mapping[str, DropReason] | None = None,
    ) -> CapturedRecord:
        """Return a record with its context for assertions."""
        session_id = context.sessionsight.session_id
        given = record.session_id if isinstance(record, Goal | FeedbackRecord) else None
        goal = record if isinstance(record, Goal) else None
        return cls(
            kind=record.kind,
            name=record.label,
            properties=decode(record.properties),
            user_id=record.user_id or context.user_id,
            session_id=given or session_id,
            context=context,
            amount=goal.amount if goal else None,
            direction=goal.direction if goal else None,
            record=record,
            dropped=dropped,
            skipped=dict(skipped or {}),
        )
