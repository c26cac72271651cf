"""Saytics' endpoints: events one by one and in batches, and identifications.

https://docs.saytics.com/api-reference/introduction
https://docs.saytics.com/api-reference/events
https://docs.saytics.com/api-reference/users
https://docs.saytics.com/concepts/properties
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sessionsight.destinations.base import rfc3339
from sessionsight.destinations.saytics import title_case
from sessionsight.inspector.ingest.base import (
    Body,
    Endpoint,
    IngestResult,
    Reply,
    Request,
    RequestRejected,
    all_or_nothing,
    always,
    check_key,
    masked,
    page_of,
    reject,
    side_of,
)
from sessionsight.inspector.ingest.fields import Fields, amount_of, shown
from sessionsight.inspector.model import InspectedRecord, Kind, Vendor

__all__ = ["Saytics"]

_KEY = ("authorization",)
_MAX_BATCH = 1000
_MAX_STRING = 256
_MAX_ARRAY = 25
_EVENT = frozenset({"event", "userId", "anonymousId", "properties", "timestamp"})
_PERSON = frozenset({"userId", "traits"})
# https://docs.saytics.com/api-reference/authentication; the others are not named there
_CODES = {400: "invalid_request", 429: "rate_limited", 500: "server_error"}


class Saytics:
    """Takes events and identifications, by a server's secret key or a browser's write key."""

    vendor: Vendor = "saytics"

    def __init__(self) -> None:
        self.endpoints = (
            Endpoint("POST", "/v1/events", _KEY, self._one, public=True),
            Endpoint("POST", "/v1/events/batch", _KEY, self._batch, public=True),
            Endpoint("POST", "/v1/users/identify", _KEY, self._identify, public=True),
            Endpoint("GET", "/v1/users/{id}", _KEY, self._profile),
            # The format of non-empty ones is not documented, and the inspector does not erase what it shows.
            Endpoint("GET", "/v1/events", _KEY, always({"events": []})),
            Endpoint("GET", "/v1/reports/events", _KEY, always({"events": []})),
            Endpoint("GET", "/v1/reports/users", _KEY, always({"users": []})),
            Endpoint("DELETE", "/v1/users/{id}", _KEY, always({"status": "ok"})),
        )

    def authenticate(self, key: object, request: Request, endpoint: Endpoint) -> None:
        """A write key may write, a secret key may do anything."""
        known = check_key(key, request.keys, where="authorization", missing="missing_key", wrong="invalid_key")
        if not endpoint.public and known.startswith("sk_write_"):
            raise RequestRejected(401, "invalid_key", f"authorization: must be the secret key, not {masked(known)}")

    def error(self, status: int, message: str, code: str | None = None) -> Reply:
        """`{"error": {"code", "message"}}`."""
        return Reply(status, {"error": {"code": code or _CODES.get(status, f"http_{status}"), "message": message}})

    def _one(self, request: Request, body: Body) -> IngestResult:
        return self._single(_event(request, body))

    def _batch(self, request: Request, body: Body) -> IngestResult:
        events = body.get("events")
        if not isinstance(events, list) or not events:
            return IngestResult(self.error(400, f"events: must be a list of events, not {shown(events)}"))
        records = [_event(request, event) for event in events]
        if len(events) > _MAX_BATCH:
            rule = f"events: must be at most {_MAX_BATCH}, not {len(events)}"
            return IngestResult(self.error(400, rule), [reject(record, rule) for record in records])
        return self._result(*all_or_nothing(records))

    def _identify(self, request: Request, body: Body) -> IngestResult:
        fields = Fields(body)
        user_id = fields.text("userId", required=True)
        traits = fields.object("traits")
        fields.only(_PERSON)
        return self._single(_record(request, fields, "identify", "identify", traits, user_id=user_id))

    def _profile(self, request: Request, body: Body) -> IngestResult:
        user_id = request.path.rpartition("/")[2]
        known = request.known(user_id)
        if not known:
            return IngestResult(self.error(404, f"no record is about the user {shown(user_id)}", "not_found"))
        traits: dict[str, Any] = {}
        for record in known:
            if record.kind == "identify":
                traits |= record.properties
        times = [record.occurred_at for record in known]
        seen = {"created_at": rfc3339(min(times)), "last_seen": rfc3339(max(times))}
        return IngestResult(Reply(200, {"id": user_id, "traits": traits, **seen}))

    def _single(self, record: InspectedRecord) -> IngestResult:
        return self._result([record], record.errors[0] if record.errors else None)

    def _result(self, records: Sequence[InspectedRecord], problem: str | None) -> IngestResult:
        reply = self.error(400, problem) if problem else Reply(200, {"status": "ok", "received": len(records)})
        return IngestResult(reply, records)


def _event(request: Request, raw: Any) -> InspectedRecord:
    fields = Fields(raw)
    name = fields.text("event", required=True)
    user_id, anonymous_id = fields.text("userId"), fields.text("anonymousId")
    if not (user_id or "").strip() and not (anonymous_id or "").strip():
        fields.errors.append("userId: is required where there is no anonymousId")
    properties = fields.object("properties")
    _check_properties(fields, properties)
    occurred_at = fields.time("timestamp")
    fields.only(_EVENT)
    if name and "_" in name and (advised := title_case(name)) is not None:
        fields.warnings.append(
            f'event: Saytics advises against snake_case names; write "{advised}" in place of "{name}", or set '
            'event_names="title_case" on the destination, which changes what is sent to Saytics alone'
        )
    return _record(
        request,
        fields,
        "event",
        name or "",
        properties,
        user_id=user_id or None,
        visitor_id=anonymous_id or None,
        amount=amount_of(properties),
        occurred_at=occurred_at,
    )


def _record(
    request: Request,
    fields: Fields,
    kind: Kind,
    name: str,
    properties: dict[str, Any],
    *,
    occurred_at: float | None = None,
    **ids: Any,
) -> InspectedRecord:
    return InspectedRecord(
        received_at=request.received_at,
        occurred_at=request.received_at if occurred_at is None else occurred_at,
        vendor="saytics",
        kind=kind,
        name=name,
        side=side_of(request),
        accepted=not fields.errors,
        errors=fields.errors,
        warnings=fields.warnings,
        properties=properties,
        raw=fields.raw,
        page_url=page_of(request, properties),
        **ids,
    )


def _check_properties(fields: Fields, properties: dict[str, Any]) -> None:
    """Limits are rules. A nested object and a null are in no list of what may be, and forbidden in none."""
    for name, value in properties.items():
        match value:
            case str() if len(value) > _MAX_STRING:
                fields.errors.append(f"properties.{name}: must be at most {_MAX_STRING} characters, not {len(value)}")
            case list() if len(value) > _MAX_ARRAY:
                fields.errors.append(f"properties.{name}: must be at most {_MAX_ARRAY} elements, not {len(value)}")
            case dict() | None:
                fields.warnings.append(f"properties.{name}: {shown(value)} is not a value that the vendor documents")
