"""Responses of each vendor, and their meaning for the records; and how much each vendor takes.

Sources: https://github.com/SessionSight/sdks (goals/src, goals/test),
https://docs.saytics.com/api-reference/introduction, https://github.com/track/sdk (src/server.ts),
https://docs.trysignal.ai/integrations/node/configuration.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from sessionsight.destinations.base import Action, Limits, VendorResponse, Verdict
from tests.conformance.facts.fact import KEYS, destination
from tests.core.destinations.factories import EVERYBODY, NOW, entry, event, goal


class ReplyFact(NamedTuple):
    destination: str
    status: int
    action: Action
    message: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = {}


def everywhere(status: int, action: Action, **headers: str) -> list[ReplyFact]:
    message = "" if action is Action.DELIVERED else f"HTTP {status}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [ReplyFact(name, status, action, message, headers=named) for name in KEYS]


REPLIES = [
    *(fact for status in (200, 201, 202, 204) for fact in everywhere(status, Action.DELIVERED)),
    *(fact for status in (408, 429) for fact in everywhere(status, Action.RETRY)),
    *everywhere(503, Action.RETRY, retry_after="30"),
    *(fact for status in (500, 502, 503, 504, 599, 700, 100) for fact in everywhere(status, Action.UNKNOWN)),
    *everywhere(413, Action.SPLIT),
    *(fact for status in (400, 409, 415, 422) for fact in everywhere(status, Action.BISECT)),
    *(fact for status in (301, 302, 307, 308) for fact in everywhere(status, Action.PAUSE)),
    *(fact for status in (401, 402, 403, 404, 405, 410) for fact in everywhere(status, Action.PAUSE)),
    # SessionSight
    ReplyFact("sessionsight", 200, Action.DELIVERED, body=b'{"success":true}'),
    ReplyFact(
        "sessionsight",
        400,
        Action.BISECT,
        "unknown goal",
        b'{"error":{"code":"VALIDATION_ERROR","message":"unknown goal"}}',
    ),
    ReplyFact("sessionsight", 429, Action.RETRY, "RATE_LIMITED", b'{"error":{"code":"RATE_LIMITED"}}'),
    ReplyFact("sessionsight", 400, Action.BISECT, "some text", b'{"error":"some text"}'),
    ReplyFact("sessionsight", 500, Action.UNKNOWN, "HTTP 500", b"<html>"),
    ReplyFact("sessionsight", 500, Action.UNKNOWN, "HTTP 500", b'{"error":{}}'),
    ReplyFact("sessionsight", 500, Action.UNKNOWN, "HTTP 500", b"[]"),
    ReplyFact("sessionsight", 400, Action.BISECT, "HTTP 400", b'{"error":{"code":"X","message":""}}'),
    ReplyFact("sessionsight", 400, Action.BISECT, "X", b'{"error":{"code":"X","message":null}}'),
    ReplyFact("sessionsight", 400, Action.BISECT, "HTTP 400", b'{"error":{"code":"X","message":0}}'),
    ReplyFact("sessionsight", 400, Action.BISECT, "7", b'{"error":{"message":7}}'),
    ReplyFact("sessionsight", 400, Action.BISECT, "a,b", b'{"error":{"message":["a","b"]}}'),
    ReplyFact("sessionsight", 400, Action.BISECT, "[object Object]", b'{"error":{"message":{}}}'),
    ReplyFact("sessionsight", 400, Action.BISECT, "true", b'{"error":true}'),
    ReplyFact("sessionsight", 400, Action.BISECT, "HTTP 400", b'{"error":["text"]}'),
    ReplyFact("sessionsight", 400, Action.BISECT, "HTTP 400", b'"text"'),
    # Saytics
    ReplyFact("saytics", 200, Action.DELIVERED, body=b'{"status":"ok","received":1}'),
    ReplyFact("saytics", 401, Action.PAUSE, "no such key", b'{"error":{"code":"invalid_key","message":"no such key"}}'),
    ReplyFact("saytics", 401, Action.PAUSE, "missing_key", b'{"error":{"code":"missing_key"}}'),
    # Analyse.net ignores its own bodies
    ReplyFact("analyse", 200, Action.DELIVERED, body=b"not JSON"),
]


@pytest.mark.parametrize(
    "fact", REPLIES, ids=lambda fact: f"{fact.destination} {fact.status} {fact.body!r} {fact.headers}"
)
def test_a_reply_means_what_the_vendor_means(fact: ReplyFact) -> None:
    vendor = destination(fact.destination)
    record = goal(session_id="s") if fact.destination == "sessionsight" else event()
    [call] = vendor.build_requests([entry(record, EVERYBODY)], now=NOW)
    reply = VendorResponse(status=fact.status, headers=dict(fact.headers), body=fact.body)
    assert vendor.classify(call, reply) == Verdict(action=fact.action, message=fact.message)


LIMITS: list[tuple[str, dict[str, Any], Limits]] = [
    ("sessionsight", {}, Limits(max_records=1, concurrency=8, max_age=86400, idempotent=False)),
    ("signal", {}, Limits(max_records=20, gzip_above=1024)),
    ("signal", {"batch_size": 50, "compression": False}, Limits(max_records=50)),
    ("saytics", {}, Limits(max_records=100, calls_per_minute=100)),
    ("saytics", {"plan": "free"}, Limits(max_records=100, calls_per_minute=100)),
    ("saytics", {"plan": "starter"}, Limits(max_records=500, calls_per_minute=500)),
    ("saytics", {"plan": "pro"}, Limits(max_records=1000, calls_per_minute=2000)),
    (
        "saytics",
        {"plan": "enterprise", "batch_size": 800, "calls_per_minute": 9000},
        Limits(max_records=800, calls_per_minute=9000),
    ),
    ("saytics", {"plan": "pro", "calls_per_minute": 500}, Limits(max_records=1000, calls_per_minute=500)),
    ("analyse", {}, Limits(max_records=100)),
    ("analyse", {"batch_size": 1}, Limits(max_records=1)),
]


@pytest.mark.parametrize(("name", "options", "limits"), LIMITS)
def test_a_lane_may_send_as_much_as_the_vendor_takes(name: str, options: dict[str, Any], limits: Limits) -> None:
    assert destination(name, options).limits == limits
