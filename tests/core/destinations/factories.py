"""Records with a fixed time and id, so that what goes on the wire can be written down."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

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
from sessionsight.capture.standard_events import StandardEvent
from sessionsight.request.context import Page, SessionSightIds, SignalIds, TrackingContext

TIME = 1767225600.5
TIMESTAMP = "2026-01-01T00:00:00.500Z"
NOW = 1767225605.0
SENT_AT = "2026-01-01T00:00:05.000Z"
ENTROPY = b"\x00" * 10
RECORD_ID = "019b76da-a9f4-7000-8000-000000000000"
NOBODY = TrackingContext()
EVERYBODY = TrackingContext(
    sessionsight=SessionSightIds(session_id="ss-session", visitor_id="ss-visitor"),
    signal=SignalIds(session_id="signal-session", window_id="signal-window", distinct_id="signal-distinct"),
    user_id="user_1",
    anonymous_id="site-anonymous",
    page=Page(
        url="https://shop.example.com/plans?utm_source=news",
        path="/plans",
        route="/plans",
        hostname="shop.example.com",
        referrer="https://www.example.com/blog",
        referrer_domain="www.example.com",
        utm_source="news",
        utm_medium="email",
        utm_campaign="spring",
        utm_term="shoes",
        utm_content="top",
        user_agent="Mozilla/5.0",
        client_ip="203.0.113.9",
    ),
)
USER = TrackingContext(user_id="user_1")
VISITOR = TrackingContext(sessionsight=SessionSightIds(session_id="ss-session", visitor_id="ss-visitor"))


def entry(record: Record, context: TrackingContext = NOBODY) -> QueuedRecord:
    return QueuedRecord(record, context)


def event(name: str = "Report Exported", properties: Mapping[str, Any] | None = None, **fields: Any) -> EventRecord:
    return EventRecord(name=name, **_common(properties, fields))


def standard(typed: StandardEvent, **fields: Any) -> EventRecord:
    return event(typed.event_name, typed.properties(), standard=True, **fields)


def identify(traits: Mapping[str, Any] | None = None, **fields: Any) -> Identify:
    return Identify(**_common(traits, fields))


def person(properties: Mapping[str, Any], *, once: bool = False, **fields: Any) -> PersonProperties:
    return PersonProperties(once=once, **_common(properties, fields))


def alias(earlier: str, **fields: Any) -> Alias:
    return Alias(alias=earlier, **_common(None, fields))


def group(group_type: str, group_key: str, properties: Mapping[str, Any] | None = None, **fields: Any) -> Group:
    return Group(group_type=group_type, group_key=group_key, **_common(properties, fields))


def goal(
    goal_id: str = "user-signups",
    direction: Literal["increment", "decrement"] = "increment",
    amount: float | Decimal = 1,
    metadata: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Goal:
    return Goal(goal_id=goal_id, direction=direction, amount=amount, **_common(metadata, fields))


def feedback(feedback_type_id: str = "nps", answer: Mapping[str, Any] | None = None, **fields: Any) -> FeedbackRecord:
    return FeedbackRecord(feedback_type_id=feedback_type_id, **_common(answer, fields))


def _common(properties: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"random": ENTROPY, "time": TIME, "properties": encode(properties or {}), **fields}
