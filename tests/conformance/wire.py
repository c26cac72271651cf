"""Received requests in a form in which two runs can be compared."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tests.conformance.receiver import Received

# What the HTTP client writes itself.
_NOT_OURS = frozenset({"host", "connection", "accept", "content-length"})
_TIMES = frozenset({"timestamp", "sentAt"})
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def normalise(received: Iterable[Received], *, since: float) -> list[dict[str, Any]]:
    """The requests in a fixed order; each id and time that changes is checked, and named by its kind."""
    calls = [_call(request, since) for request in received]
    return sorted(calls, key=lambda call: json.dumps(call, sort_keys=True))


def _call(request: Received, since: float) -> dict[str, Any]:
    headers = {name: value for name, value in request.headers.items() if name not in _NOT_OURS}
    if (key := headers.get("idempotency-key")) is not None:
        headers["idempotency-key"] = _id(key, since)
    agent = headers.pop("user-agent")
    assert re.fullmatch(r"sessionsight-python/\S+( .*)?", agent), agent
    assert headers.pop("accept-encoding", "identity") == "identity"
    return {
        "request": f"{request.method} {request.path}",
        "headers": dict(sorted(headers.items())),
        # A fraction is compared as it was written: 49.90 is not 49.9.
        "body": _body(json.loads(request.body, parse_float="number {}".format), since),
    }


def _id(text: str, since: float) -> str:
    uuid = UUID(text)
    assert str(uuid) == text
    if uuid.version == 7:
        at = (uuid.int >> 80) / 1000
        return "<uuid7>" if since - 1 <= at <= time.time() + 1 else f"<uuid7 of {datetime.fromtimestamp(at, UTC)}>"
    assert uuid.version == 8
    return text


def _body(value: Any, since: float) -> Any:
    if isinstance(value, dict):
        return {name: _time(item, since) if name in _TIMES else _body(item, since) for name, item in value.items()}
    return [_body(item, since) for item in value] if isinstance(value, list) else value


def _time(text: str, since: float) -> str:
    assert _TIME.fullmatch(text), text
    at = datetime.fromisoformat(text).timestamp()
    return "<now>" if since - 1 <= at <= time.time() + 1 else text
