"""Analyse.net's endpoint: batches of snake_case events, from servers and browsers alike.

https://analyse.net/docs/server-side-tracking
https://analyse.net/docs/standard-events
https://github.com/track/sdk (`src/server.ts`, `src/client.ts`, `src/events`)
"""

from __future__ import annotations

from typing import Any

from sessionsight.inspector.ingest.base import (
    Body,
    Endpoint,
    IngestResult,
    Reply,
    Request,
    RequestRejected,
    all_or_nothing,
    check_key,
    masked,
    page_of,
    side_of,
)
from sessionsight.inspector.ingest.fields import Fields, amount_of, number, shown
from sessionsight.inspector.model import InspectedRecord, Vendor

__all__ = ["Analyse"]

_PAGE = ("url", "path", "hostname", "referrer", "referrer_domain")
_CAMPAIGN = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
_SCREEN = ("screen_w", "screen_h")
_EVENT = frozenset(
    {"event_name", "anonymous_id", "person_id", "session_id", "timestamp", "properties", *_PAGE, *_CAMPAIGN, *_SCREEN}
)


class Analyse:
    """Takes batches whose public key stands in their body."""

    vendor: Vendor = "analyse"

    def __init__(self) -> None:
        self.endpoints = (
            Endpoint("POST", "/v1/batch", ("body.publicKey",), self._batch, public=True),
            Endpoint("POST", "/v1/event", ("body.publicKey",), self._single, public=True),
        )

    def authenticate(self, key: object, request: Request, endpoint: Endpoint) -> None:
        """One public key for servers and browsers; a secret one has no business here."""
        known = check_key(key, request.keys, where="publicKey", missing="missing_key", wrong="invalid_key")
        if known.startswith("sk_"):
            raise RequestRejected(401, "invalid_key", f"publicKey: must be the public key, not {masked(known)}")

    def error(self, status: int, message: str, code: str | None = None) -> Reply:
        """The vendor documents no form; its SDK reads the status alone."""
        return Reply(status, {"error": message})

    def _batch(self, request: Request, body: Body) -> IngestResult:
        events = body.get("events")
        if not isinstance(events, list):
            return IngestResult(self.error(400, f"events: must be a list of events, not {shown(events)}"))
        records, problem = all_or_nothing([_event(request, event) for event in events])
        reply = self.error(400, problem) if problem else Reply(200, {"success": True})
        return IngestResult(reply, records)

    def _single(self, request: Request, body: Body) -> IngestResult:
        """One event, which may leave its time to the vendor, as the vendor's WordPress plugin does.

        https://github.com/track/wordpress-plugin
        """
        if not isinstance(body.get("event"), dict):
            return IngestResult(self.error(400, f"event: must be an object, not {shown(body.get('event'))}"))
        record = _event(request, body["event"], dated=False)
        reply = Reply(200, {"success": True}) if record.accepted else self.error(400, f"event.{record.errors[0]}")
        return IngestResult(reply, [record])


def _event(request: Request, raw: Any, *, dated: bool = True) -> InspectedRecord:
    fields = Fields(raw)
    name = fields.text("event_name", required=True)
    anonymous_id = fields.text("anonymous_id", required=True)
    person_id = fields.text("person_id", required=name == "$identify")
    session_id = fields.text("session_id")
    if dated and "timestamp" not in fields.raw:
        fields.errors.append("timestamp: is required")
    occurred_at = fields.time("timestamp")
    for field in (*_PAGE, *_CAMPAIGN):
        fields.text(field)
    for field in _SCREEN:
        if fields.raw.get(field) is not None and number(fields.raw[field]) is None:
            fields.errors.append(f"{field}: must be a number, not {shown(fields.raw[field])}")
    properties = fields.object("properties")
    fields.only(_EVENT)
    if name:
        fields.warnings.extend(_advice(name, properties))
    return InspectedRecord(
        received_at=request.received_at,
        occurred_at=request.received_at if occurred_at is None else occurred_at,
        vendor="analyse",
        kind="identify" if name == "$identify" else "event",
        name=name or "",
        side=side_of(request),
        accepted=not fields.errors,
        errors=fields.errors,
        warnings=fields.warnings,
        session_id=session_id or None,
        visitor_id=anonymous_id if anonymous_id != person_id else None,
        user_id=person_id or None,
        amount=amount_of(properties),
        properties=properties,
        raw=fields.raw,
        page_url=page_of(request, fields.raw, properties),
    )


def _advice(name: str, properties: dict[str, Any]) -> list[str]:
    """Add the warnings that the vendor's own SDK shows in development."""
    advice = []
    subscription = properties.get("payment_type") == "subscription"
    if name.startswith("checkout_") and subscription and not properties.get("billing_interval"):
        advice.append("properties.billing_interval: a subscription's checkout should have one")
    if name == "checkout_finished":
        amount = number(properties.get("amount"))
        if amount is None or amount < 0:
            advice.append("properties.amount: a finished checkout should have one, in minor units, zero or above")
    content_id = properties.get("content_id")
    if name == "content_viewed" and not (isinstance(content_id, str) and content_id.strip()):
        advice.append("properties.content_id: viewed content should have one")
    return advice
