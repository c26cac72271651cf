"""Calls of SessionSight's browser SDKs besides goals: recordings, counts without consent, split tests.

The vendor publishes no reference for these endpoints, so the rules are what its SDKs build and read:
https://github.com/SessionSight/sdks (insights/src, split-testing/src, sdk-shared/src).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessionsight.inspector.ingest import visitors
from sessionsight.inspector.ingest.base import Body, Request
from sessionsight.inspector.ingest.fields import Fields, number, shown
from sessionsight.inspector.model import InspectedRecord
from sessionsight.javascript import length

__all__ = ["anonymous_events", "exposures", "recording"]

_RECORDING = frozenset(
    {
        "sessionId", "propertyId", "visitorId", "visitorToken", "apiKey", "events", "metadata", "id", "email",
        "customProperties", "seqStart", "seqEnd", "final",
    }
)  # fmt: skip
_ANONYMOUS = frozenset({"propertyId", "apiKey", "day", "ephemeralVisitorId", "ephemeralSessionId", "events"})
_EXPOSURES = frozenset({"propertyId", "apiKey", "visitorId", "visitorToken", "exposures"})
_EXPOSURE = frozenset({"splitTestKey", "variationKey", "sessionId", "timestamp", "attributes"})
# Without consent no amount and no decrement is counted: the SDK has no event for either.
_TAGS = frozenset(
    {
        "pageview", "goal_count", "aggregate_click", "experience_tick", "form_start", "field_focus", "field_blur",
        "form_field_retry", "form_submit", "form_abandonment", "error",
    }
)  # fmt: skip
_MAX_ANONYMOUS_EVENTS = 100
# The limits of the SDK's `identify`.
_MAX_ID, _MAX_EMAIL, _MAX_PROPERTIES, _MAX_PROPERTY_NAME, _MAX_PROPERTY = 256, 320, 20, 128, 1024
_YEAR_9999 = 253_370_764_800_000.0  # milliseconds


def recording(request: Request, fields: Fields, session_id: str | None) -> list[InspectedRecord]:
    """Read a piece of a session's recording, and whom the page has identified with it.

    Args:
        request: The request, or a websocket's message as one.
        fields: The body's fields, whose rules and warnings the records bear.
        session_id: The session, checked.

    Returns:
        The recording as one event, and an identification where the page sent one.
    """
    fields.text("propertyId", required=True)
    visitor_id = fields.text("visitorId", required=True)
    events = _list(fields, "events")
    metadata = fields.object("metadata")
    user_id, email = fields.text("id", most=_MAX_ID), fields.text("email", most=_MAX_EMAIL)
    custom = _custom_properties(fields)
    for name in ("seqStart", "seqEnd"):
        if fields.raw.get(name) is not None and number(fields.raw[name]) is None:
            fields.errors.append(f"{name}: must be a number, not {shown(fields.raw[name])}")
    fields.only(_RECORDING)
    # The events are the page's own DOM; they stand in the call, and would fill each view of the record.
    raw = {**fields.raw, "events": f"{len(events)} in the call itself"}
    ids = {"session_id": session_id, "visitor_id": visitor_id or None, "raw": raw}
    page = metadata.get("url")
    about: dict[str, Any] = {"page_url": page if isinstance(page, str) and page else None, **ids}
    records = [_record(request, fields, "recording", properties={"events": len(events), **metadata}, **about)]
    if user_id or email or custom:
        traits = {**custom, **({"email": email} if email else {})}
        records.append(
            _record(request, fields, "identify", kind="identify", properties=traits, user_id=user_id or email, **about)
        )
    return records


def anonymous_events(request: Request, body: Body) -> list[InspectedRecord]:
    """Read a batch of the tier without consent: counts under ids that live as long as the page."""
    fields = Fields(body)
    fields.text("propertyId", required=True)
    ids = {
        "visitor_id": fields.text("ephemeralVisitorId", required=True),
        "session_id": fields.text("ephemeralSessionId", required=True),
    }
    fields.text("day", required=True)
    events = _list(fields, "events")
    if len(events) > _MAX_ANONYMOUS_EVENTS:
        fields.errors.append(f"events: must be at most {_MAX_ANONYMOUS_EVENTS}, not {len(events)}")
    fields.only(_ANONYMOUS)
    return [_anonymous_event(request, fields, event, ids) for event in events]


def _anonymous_event(request: Request, envelope: Fields, raw: Any, ids: Mapping[str, str | None]) -> InspectedRecord:
    fields = _within(envelope, raw)
    tag = fields.text("tag", required=True)
    if tag is not None and tag not in _TAGS:
        fields.errors.append(f"tag: must be one of {', '.join(sorted(_TAGS))}, not {shown(tag)}")
    goal_id = fields.text("goalId", required=True) if tag == "goal_count" else None
    if goal_id is not None and "amount" in fields.raw:
        fields.warnings.append("amount: is not counted without consent")
    page = fields.raw.get("path", fields.raw.get("page"))
    return _record(
        request,
        fields,
        goal_id or tag or "",
        kind="goal" if tag == "goal_count" else "event",
        occurred_at=_milliseconds(fields, "ts"),
        amount=None if goal_id is None else 1.0,
        properties={name: value for name, value in fields.raw.items() if name not in {"tag", "goalId", "ts"}},
        raw=fields.raw,
        page_url=page if isinstance(page, str) and page else None,
        **ids,
    )


def exposures(request: Request, body: Body) -> list[InspectedRecord]:
    """Read which variations of split tests a visitor has seen."""
    fields = Fields(body)
    fields.text("propertyId", required=True)
    visitor_id, token = fields.text("visitorId"), fields.text("visitorToken")
    if not token:
        fields.warnings.append("visitorToken: is missing; by the vendor's SDK, its API takes no exposure without one")
    seen = _list(fields, "exposures")
    fields.only(_EXPOSURES)
    visitor_id = (visitors.visitor_of(token) if token else None) or visitor_id
    return [_exposure(request, fields, exposure, visitor_id) for exposure in seen]


def _exposure(request: Request, envelope: Fields, raw: Any, visitor_id: str | None) -> InspectedRecord:
    fields = _within(envelope, raw)
    test, variation = fields.text("splitTestKey", required=True), fields.text("variationKey", required=True)
    session_id = fields.text("sessionId", required=True)
    attributes = fields.object("attributes")
    occurred_at = _milliseconds(fields, "timestamp")
    fields.only(_EXPOSURE)
    return _record(
        request,
        fields,
        f"split test {test or ''}".rstrip(),
        occurred_at=occurred_at,
        session_id=session_id or None,
        visitor_id=visitor_id,
        properties={"variation": variation, **attributes},
        raw=fields.raw,
    )


# --- Fields ---------------------------------------------------------------------------------------


def _within(envelope: Fields, raw: Any) -> Fields:
    """Fields of one event, including the errors of its envelope."""
    fields = Fields(raw)
    fields.errors[:0] = envelope.errors
    fields.warnings[:0] = envelope.warnings
    return fields


def _list(fields: Fields, name: str) -> list[Any]:
    value = fields.raw.get(name)
    if isinstance(value, list):
        return value
    fields.errors.append(f"{name}: must be a list, not {shown(value)}")
    return []


def _milliseconds(fields: Fields, name: str) -> float | None:
    given = fields.raw.get(name)
    value = number(given)
    if value is None or not 0 <= value < _YEAR_9999:
        fields.errors.append(f"{name}: must be milliseconds since 1970, not {shown(given)}")
        return None
    return value / 1000


def _custom_properties(fields: Fields) -> dict[str, Any]:
    custom = fields.object("customProperties")
    if len(custom) > _MAX_PROPERTIES:
        fields.errors.append(f"customProperties: must be at most {_MAX_PROPERTIES}, not {len(custom)}")
    for name, value in custom.items():
        if length(name) > _MAX_PROPERTY_NAME:
            fields.errors.append(f"customProperties: a name must be at most {_MAX_PROPERTY_NAME} characters")
        if not isinstance(value, str | int | float):
            fields.errors.append(f"customProperties.{name}: must be text, a number or a boolean, not {shown(value)}")
        elif isinstance(value, str) and length(value) > _MAX_PROPERTY:
            fields.errors.append(f"customProperties.{name}: must be at most {_MAX_PROPERTY} characters")
    return custom


def _record(
    request: Request, fields: Fields, name: str, *, raw: dict[str, Any], occurred_at: float | None = None, **given: Any
) -> InspectedRecord:
    return InspectedRecord(
        **{
            "received_at": request.received_at,
            "occurred_at": request.received_at if occurred_at is None else occurred_at,
            "vendor": "sessionsight",
            "kind": "event",
            "name": name,
            "side": "browser",
            "accepted": not fields.errors,
            "errors": fields.errors,
            "warnings": fields.warnings,
            "raw": raw,
            **given,
        }
    )
