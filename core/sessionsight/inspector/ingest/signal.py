"""Signal's endpoint.

The vendor documents its calls, and no wire format: path, envelope and the key's place are the assumptions of
our `Signal` destination.

https://docs.trysignal.ai/integrations/node/capture
https://docs.trysignal.ai/integrations/node/group
https://docs.trysignal.ai/integrations/node/alias
"""

from __future__ import annotations

import re
from typing import Any

from sessionsight.inspector.ingest.base import (
    Body,
    Endpoint,
    IngestResult,
    Reply,
    Request,
    all_or_nothing,
    check_key,
    page_of,
    reject,
    side_of,
)
from sessionsight.inspector.ingest.fields import Fields, amount_of, shown
from sessionsight.inspector.model import InspectedRecord, Kind, Vendor

__all__ = ["Signal"]

_KEY = ("authorization", "x-api-key", "body.apiKey")
_KINDS: dict[str, Kind] = {
    "$identify": "identify",
    "$set": "person",
    "$set_once": "person",
    "$create_alias": "alias",
    "$group_assign": "group",
    "$groupidentify": "group",
}
_EVENT = frozenset({"event", "distinctId", "timestamp", "properties", "groups", "sessionId", "windowId"})
# Browsers make their distinct ids so; users' ids are the app's.
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Signal:
    """Takes batches of events, people, aliases and groups."""

    vendor: Vendor = "signal"

    def __init__(self) -> None:
        self.endpoints = (Endpoint("POST", "/v1/capture", _KEY, self._batch, public=True),)

    def authenticate(self, key: object, request: Request, endpoint: Endpoint) -> None:
        """The key stands in one of two headers, or in the body."""
        check_key(key, request.keys, where="authorization", missing="missing_key", wrong="invalid_key")

    def error(self, status: int, message: str, code: str | None = None) -> Reply:
        """The vendor documents no form."""
        return Reply(status, {"error": {"code": code or f"http_{status}", "message": message}})

    def _batch(self, request: Request, body: Body) -> IngestResult:
        envelope = Fields(body)
        envelope.text("projectId")
        envelope.time("sentAt")
        events = body.get("events")
        if not isinstance(events, list):
            envelope.errors.append(f"events: must be a list of events, not {shown(events)}")
            events = []
        records, problem = all_or_nothing([_event(request, event) for event in events])
        if envelope.errors:
            problem = envelope.errors[0]
            records = [reject(record, problem) for record in records]
        reply = self.error(400, problem, "invalid_request") if problem else Reply(200, {"success": True})
        return IngestResult(reply, records)


def _event(request: Request, raw: Any) -> InspectedRecord:
    fields = Fields(raw)
    name = fields.text("event", required=True)
    distinct_id = fields.text("distinctId", required=name != "$groupidentify")
    occurred_at = fields.time("timestamp")
    properties = fields.object("properties")
    fields.texts("groups")
    session_id, window_id = fields.text("sessionId"), fields.text("windowId")
    fields.only(_EVENT)
    known = Fields(properties)
    if name == "$create_alias":
        known.text("alias", required=True)
    elif name in {"$group_assign", "$groupidentify"}:
        known.text("groupType", required=True)
        known.text("groupKey", required=True)
        known.object("groupProperties")
    fields.errors.extend(f"properties.{rule}" for rule in known.errors)
    user_id, visitor_id = _who(name, distinct_id, properties)
    return InspectedRecord(
        received_at=request.received_at,
        occurred_at=request.received_at if occurred_at is None else occurred_at,
        vendor="signal",
        kind=_KINDS.get(name or "", "event"),
        name=name or "",
        side=side_of(request),
        accepted=not fields.errors,
        errors=fields.errors,
        warnings=fields.warnings,
        session_id=session_id or None,
        window_id=window_id or None,
        visitor_id=visitor_id,
        user_id=user_id,
        amount=amount_of(properties),
        properties=properties,
        raw=fields.raw,
        page_url=page_of(request, properties),
    )


def _who(name: str | None, distinct_id: str | None, properties: dict[str, Any]) -> tuple[str | None, str | None]:
    """User and visitor: one id serves for both, and only some events say which it is."""
    if name == "$create_alias":
        alias = properties.get("alias")
        return distinct_id or None, alias if isinstance(alias, str) else None
    if name != "$identify" and distinct_id and _UUID.fullmatch(distinct_id):
        return None, distinct_id
    return distinct_id or None, None
