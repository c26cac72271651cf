"""SessionSight's endpoints: goals of servers and browsers, and what its scripts ask for.

https://sessionsight.com/docs/build/api-reference/goals/increment
https://sessionsight.com/docs/build/api-reference/authentication
https://sessionsight.com/docs/build/api-reference/feedback/submit
https://github.com/SessionSight/sdks (goals/src, insights/src, flags/src, feedback/src)
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any, Literal

from sessionsight.destinations.pii_filter import filter_metadata
from sessionsight.inspector.ingest import recordings, visitors
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
from sessionsight.inspector.ingest.fields import Fields, number, shown
from sessionsight.inspector.model import InspectedRecord, Kind, Vendor
from sessionsight.javascript import length

__all__ = ["SessionSight"]

_SESSION_ID = re.compile(r"[A-Za-z0-9-]{1,128}")
_SLUG = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
_GOAL = frozenset({"goalId", "propertyId", "amount", "sessionId", "metadata"})
_BROWSER_GOAL = _GOAL | {"apiKey", "visitorId", "visitorToken"}
_FEEDBACK = frozenset({"feedbackTypeId", "propertyId", "sessionId", "option", "message", "metadata"})
_MAX_METADATA_KEYS = 5
_MAX_METADATA_TEXT = 256
_MAX_MESSAGE = 5000
_CODES = {400: "VALIDATION_ERROR", 401: "UNAUTHORIZED", 429: "RATE_LIMITED"}

_IN_HEADER = ("x-api-key",)
_IN_BODY = ("body.apiKey",)
_IN_EITHER = ("x-api-key", "body.apiKey")

Direction = Literal["increment", "decrement"]


class SessionSight:
    """Takes goals and feedback, and answers the browser's script and flags."""

    vendor: Vendor = "sessionsight"

    def __init__(self) -> None:
        up, down = partial(self._goal, direction="increment"), partial(self._goal, direction="decrement")
        self.endpoints = (
            Endpoint("POST", "/v1/goals/increment", _IN_HEADER, up),
            Endpoint("POST", "/v1/goals/decrement", _IN_HEADER, down),
            Endpoint("POST", "/v1/sdk/goals/increment", _IN_BODY, up, public=True),
            Endpoint("POST", "/v1/sdk/goals/decrement", _IN_BODY, down, public=True),
            Endpoint("POST", "/v1/sdk/visitor/bootstrap", _IN_HEADER, self._bootstrap, public=True),
            Endpoint("POST", "/v1/ingest", _IN_EITHER, self._recording, public=True),
            Endpoint("POST", "/v1/ingest/anonymous", _IN_EITHER, self._anonymous, public=True),
            Endpoint("GET", "/v1/split-testing/config", _IN_HEADER, self._split_tests, public=True),
            Endpoint("POST", "/v1/split-testing/expose", _IN_EITHER, self._exposures, public=True, keyless=True),
            Endpoint("POST", "/v1/flags/evaluate", _IN_HEADER, self._flags),
            Endpoint("GET", "/v1/flags/list", _IN_HEADER, self._flag_definitions),
            Endpoint("POST", "/v1/feedback/submit", _IN_HEADER, self._feedback),
        )

    def authenticate(self, key: object, request: Request, endpoint: Endpoint) -> None:
        """Servers have a secret key, browsers a public one; neither will do in the other's place."""
        if endpoint.keyless and not key:
            return
        where = "apiKey" if endpoint.key is _IN_BODY else "x-api-key"
        known = check_key(key, request.keys, where=where, missing="UNAUTHORIZED", wrong="UNAUTHORIZED")
        wrong, needed = ("sec", "public") if endpoint.public else ("pub", "secret")
        if known.startswith(f"sessionsight_{wrong}_"):
            raise RequestRejected(401, "UNAUTHORIZED", f"{where}: must be the {needed} key, not {masked(known)}")

    def error(self, status: int, message: str, code: str | None = None) -> Reply:
        """`{"error": {"code", "message"}}`, codes in capitals."""
        code = _CODES.get(status) or (code or f"HTTP_{status}").upper()
        return Reply(status, {"error": {"code": code, "message": message}})

    def _goal(self, request: Request, body: Body, *, direction: Direction) -> IngestResult:
        fields = Fields(body)
        goal_id = fields.text("goalId", required=True)
        if goal_id is not None and not _SLUG.fullmatch(goal_id):
            fields.warnings.append(f"goalId: goals have slugs such as user-signups, and {shown(goal_id)} is none")
        fields.text("propertyId", required=True)
        amount = _amount(fields)
        session_id = _session_id(fields)
        _check_metadata(fields)
        browser = request.path.startswith("/v1/sdk/")
        visitor_id = _visitor_of_browser(fields) if browser else None
        fields.only(_BROWSER_GOAL if browser else _GOAL)
        record = _record(
            request,
            fields,
            kind="goal",
            name=goal_id or "",
            session_id=session_id,
            visitor_id=visitor_id,
            amount=amount if amount is None or direction == "increment" else -amount,
            properties=fields.raw.get("metadata"),
        )
        return self._result(record)

    def _feedback(self, request: Request, body: Body) -> IngestResult:
        fields = Fields(body)
        feedback_type = fields.text("feedbackTypeId", required=True)
        fields.text("propertyId", required=True)
        session_id = _session_id(fields)
        fields.text("option")
        fields.text("message", most=_MAX_MESSAGE)
        fields.texts("metadata")
        fields.only(_FEEDBACK)
        given = {name: body[name] for name in ("option", "message", "metadata") if name in body}
        name = f"feedback {feedback_type or ''}".rstrip()
        return self._result(_record(request, fields, kind="event", name=name, session_id=session_id, properties=given))

    def _bootstrap(self, request: Request, body: Body) -> IngestResult:
        fields = Fields(body)
        fields.text("propertyId", required=True)
        visitor_id = visitors.reuse_or_create(fields.text("clientVisitorId"))
        if fields.errors:
            return IngestResult(self.error(400, fields.errors[0]))
        granted = {
            "visitorId": visitor_id,
            "visitorToken": visitors.token_for(visitor_id),
            "issuedAt": int(request.received_at * 1000),
        }
        return IngestResult(Reply(200, granted))

    def _recording(self, request: Request, body: Body) -> IngestResult:
        fields = Fields(body)
        records = recordings.recording(request, fields, _session_id(fields))
        if fields.errors:
            return IngestResult(self.error(400, fields.errors[0]), records)
        granted: dict[str, Any] = {"success": True}
        if not fields.raw.get("visitorToken"):  # the first of a new visitor, who gets a token with the reply
            granted["rotateVisitorToken"] = visitors.token_for(visitors.reuse_or_create(fields.raw["visitorId"]))
        return IngestResult(Reply(200, granted), records)

    def _anonymous(self, request: Request, body: Body) -> IngestResult:
        return self._batch(body, "events", recordings.anonymous_events(request, body))

    def _exposures(self, request: Request, body: Body) -> IngestResult:
        return self._batch(body, "exposures", recordings.exposures(request, body))

    def _batch(self, body: Body, name: str, given: list[InspectedRecord]) -> IngestResult:
        if not isinstance(body.get(name), list):
            return IngestResult(self.error(400, f"{name}: must be a list, not {shown(body.get(name))}"))
        records, problem = all_or_nothing(given, name)
        return IngestResult(self.error(400, problem) if problem else Reply(200, {"success": True}), records)

    def _split_tests(self, request: Request, body: Body) -> IngestResult:
        if not request.query.get("propertyId", "").strip():
            return IngestResult(self.error(400, "propertyId: is required"))
        return IngestResult(Reply(200, {"tests": []}))

    def _flags(self, request: Request, body: Body) -> IngestResult:
        fields = Fields(body)
        fields.text("propertyId", required=True)
        fields.text("environment", required=True)
        fields.object("context")
        if fields.errors:
            return IngestResult(self.error(400, fields.errors[0]))
        flags = {key: {"value": value, "type": _flag_type(value)} for key, value in request.flags.items()}
        return IngestResult(Reply(200, {"flags": flags}))

    def _flag_definitions(self, request: Request, body: Body) -> IngestResult:
        if not request.query.get("propertyId", "").strip():
            return IngestResult(self.error(400, "propertyId: is required"))
        flags = [
            {
                "id": f"flag_{key}",
                "key": key,
                "name": key,
                "type": _flag_type(value),
                "defaultValue": value,
                "createdAt": int(request.received_at * 1000),
            }
            for key, value in request.flags.items()
        ]
        return IngestResult(Reply(200, {"flags": flags, "configs": []}))

    def _result(self, record: InspectedRecord) -> IngestResult:
        reply = Reply(200, {"success": True}) if record.accepted else self.error(400, record.errors[0])
        return IngestResult(reply, [record])


def _record(request: Request, fields: Fields, *, kind: Kind, name: str, properties: Any, **ids: Any) -> InspectedRecord:
    return InspectedRecord(
        received_at=request.received_at,
        occurred_at=request.received_at,
        vendor="sessionsight",
        kind=kind,
        name=name,
        side=side_of(request),
        accepted=not fields.errors,
        errors=fields.errors,
        warnings=fields.warnings,
        properties=properties if isinstance(properties, dict) else {},
        raw={**fields.raw, "apiKey": masked(str(fields.raw["apiKey"]))} if "apiKey" in fields.raw else fields.raw,
        page_url=page_of(request),
        **ids,
    )


def _flag_type(value: bool | str) -> str:  # noqa: FBT001  # the value of a flag
    return "boolean" if isinstance(value, bool) else "string"


def _amount(fields: Fields) -> float | None:
    given = fields.raw.get("amount", 1)
    amount = number(given)
    if amount is None:
        fields.errors.append(f"amount: must be a number, not {shown(given)}")
    elif not 0 < amount < math.inf:
        fields.errors.append(f"amount: must be above zero and finite, for a decrement as well, not {shown(given)}")
        return None
    return amount


def _session_id(fields: Fields) -> str | None:
    session_id = fields.text("sessionId", required=True)
    if session_id is not None and not _SESSION_ID.fullmatch(session_id):
        fields.errors.append(f"sessionId: must be at most 128 letters, digits and hyphens, not {shown(session_id)}")
    return session_id


def _visitor_of_browser(fields: Fields) -> str | None:
    """The visitor of a browser's goal: by its token, which nobody can make up, else by its own word."""
    visitor_id, token = fields.text("visitorId"), fields.text("visitorToken")
    if not token:
        fields.warnings.append("visitorToken: is missing; the vendor's SDK waits for one before it sends a goal")
    return (visitors.visitor_of(token) if token else None) or visitor_id or None


def _check_metadata(fields: Fields) -> None:
    metadata = fields.texts("metadata")
    if len(metadata) > _MAX_METADATA_KEYS:
        fields.errors.append(f"metadata: must have at most {_MAX_METADATA_KEYS} keys, not {len(metadata)}")
    for key, value in metadata.items():
        if length(key) > _MAX_METADATA_TEXT:
            fields.errors.append(f"metadata: a key must be at most {_MAX_METADATA_TEXT} characters, not {length(key)}")
        elif isinstance(value, str) and length(value) > _MAX_METADATA_TEXT:
            fields.errors.append(
                f"metadata.{key}: must be at most {_MAX_METADATA_TEXT} characters, not {length(value)}"
            )
    if not fields.errors:
        _, secrets = filter_metadata(metadata)
        fields.warnings.extend(
            f"metadata.{key}: looks like {reason}, which the vendor's own SDK does not send"
            for key, reason in secrets.items()
        )
