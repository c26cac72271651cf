"""The API's OpenAPI document: schemas from the values themselves, paths written out."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from sessionsight.inspector.fault_injection import FAIL, LATENCY, RATE_LIMIT
from sessionsight.inspector.filters import MAX_ID
from sessionsight.inspector.model import (
    KINDS,
    VENDORS,
    Counts,
    GoalTotal,
    InspectedRecord,
    RecordedRequest,
    RecordPage,
    SessionSummary,
    VendorHealth,
)

__all__ = ["MAX_LIMIT", "MAX_WAIT", "document"]

MAX_LIMIT = 1000
"""Records or sessions on one page."""
MAX_WAIT = 60
"""Seconds."""

_VALUES = (InspectedRecord, RecordedRequest, RecordPage, SessionSummary, GoalTotal, VendorHealth, Counts)
_ID = {"type": "integer", "minimum": 0, "maximum": MAX_ID}
_HEADER = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
"""A pair without `prefixItems`, which readers of older drafts take for something else."""
_FLAGS = {"type": "object", "additionalProperties": {"anyOf": [{"type": "boolean"}, {"type": "string"}]}}
_TIME = {"anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}]}


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    _, schemas = msgspec.json.schema_components(_VALUES, ref_template="#/components/schemas/{name}")
    schemas["RecordedRequest"]["properties"]["headers"]["items"] = _HEADER
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sessionsight inspector",
            "version": version("sessionsight"),
            "description": "What a local inspector has received. Times are Unix seconds.",
        },
        "paths": _paths(),
        "components": {"schemas": {**schemas, "Faults": _faults(), "Problem": _object(error={"type": "string"})}},
    }


def _paths() -> dict[str, Any]:
    record, sessions = _ref(InspectedRecord), {"type": "array", "items": _ref(SessionSummary)}
    goal = _object(goal=_ref(GoalTotal), series=_list({"type": "array", "items": {"type": "number"}}))
    return {
        "/api/records": {
            "get": _operation("The records, newest first", _ref(RecordPage), [*_filters(), *_paging()]),
            "delete": _operation("Remove everything", _object(removed={"type": "integer"})),
        },
        "/api/records/{id}": {"get": _operation("One record", record, [_path("id", _ID)], missing=True)},
        "/api/requests/{id}": {
            "get": _operation(
                "The request that a record came in", _ref(RecordedRequest), [_path("id", _ID)], missing=True
            )
        },
        "/api/goals": {"get": _operation("What the goals add up to", _object(goals=_list(_ref(GoalTotal))))},
        "/api/goals/{id}": {"get": _operation("One goal, and its total over time", goal, [_path("id")], missing=True)},
        "/api/sessions": {
            "get": _operation("The sessions, newest first", _object(sessions=sessions, next=_nullable(_ID)), _paging())
        },
        "/api/sessions/{id}": {
            "get": _operation(
                "Records of a session, and those linked to it, in the order in which they occurred",
                _object(session_id={"type": "string"}, records=_list(record)),
                [_path("id")],
                missing=True,
            )
        },
        "/api/counts": {"get": _operation("How many records there are", _ref(Counts))},
        "/api/health": {"get": _operation("How the endpoints are doing", _object(vendors=_list(_ref(VendorHealth))))},
        "/api/wait": {
            "get": _operation(
                "Wait until there are so many records",
                _object(count={"type": "integer"}, reached={"type": "boolean"}),
                [
                    *_filters(),
                    _query("count", {**_ID, "default": 1}),
                    _query("timeout", {"type": "number", "minimum": 0, "maximum": MAX_WAIT, "default": 10}, "Seconds."),
                ],
            )
        },
        "/api/flags": {
            "get": _operation("The feature flags of all visitors", _FLAGS),
            "put": {
                **_operation("Set the feature flags of all visitors, in place of those that were set", _FLAGS),
                "requestBody": {"required": True, "content": _json(_FLAGS)},
            },
        },
        "/api/faults": {
            "get": _operation("What is to go wrong", _schema("Faults")),
            "put": {
                **_operation("Let something go wrong, in place of what was set", _schema("Faults")),
                "requestBody": {"required": True, "content": _json(_schema("Faults"))},
            },
        },
        "/api/stream": {
            "get": {
                **_operation("Records as they arrive, as server-sent events", {}, _filters()),
                "description": "Events `record`, with the record as data and its id; `cleared`; and `reload`, "
                "when there were more than could be sent. `Last-Event-ID` continues a stream.",
            }
        },
    }


def _filters() -> list[dict[str, Any]]:
    text = {"type": "string", "minLength": 1}
    return [
        _query("vendor", {"enum": [*VENDORS]}),
        _query("kind", {"enum": [*KINDS]}),
        _query("status", {"enum": ["accepted", "refused"]}),
        _query("session", text),
        _query("visitor", text),
        _query("user", text),
        _query("event", text, "An event's name or a goal's id."),
        _query("text", text, "Stands somewhere in the record."),
        _query("since", _TIME, "Received then or later."),
        _query("until", _TIME, "Received before."),
        _query("after", _ID, "Newer than the record of this id."),
    ]


def _paging() -> list[dict[str, Any]]:
    return [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50}),
        _query("before", _ID, "The `next` of the page before."),
    ]


def _faults() -> dict[str, Any]:
    patterns = {"fail": FAIL, "latency": LATENCY, "rate_limit": RATE_LIMIT}
    return {
        "type": "object",
        "properties": {name: _nullable({"type": "string", "pattern": f"^$|{text}"}) for name, text in patterns.items()},
        "additionalProperties": False,
    }


def _operation(
    summary: str,
    schema: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    *,
    missing: bool = False,
) -> dict[str, Any]:
    content = _json(schema) if schema else {"text/event-stream": {"schema": {"type": "string"}}}
    problem = {"description": "What was wrong.", "content": _json(_schema("Problem"))}
    replies: dict[str, Any] = {"200": {"description": "As asked.", "content": content}, "400": problem}
    if missing:
        replies["404"] = problem
    return {"summary": summary, "parameters": parameters or [], "responses": replies}


def _query(name: str, schema: dict[str, Any], description: str = "") -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, **({"description": description} if description else {})}


def _path(name: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema or {"type": "string", "minLength": 1}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(value: type) -> dict[str, Any]:
    return _schema(value.__name__)


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}
