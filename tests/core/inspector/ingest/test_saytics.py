from typing import Any

import pytest

from tests.core.inspector.calls import BEARER, TIME, VISITOR, event
from tests.core.inspector.ingest.asking import NOW, ask, one

EVENTS, BATCH, IDENTIFY = "/v1/events", "/v1/events/batch", "/v1/users/identify"


def test_an_event_is_taken() -> None:
    outcome = ask(EVENTS, event(anonymousId=VISITOR, properties={"amount": 49.9, "path": "/buy"}), BEARER)
    record = one(outcome)
    assert (outcome.reply.status, outcome.reply.json) == (200, {"status": "ok", "received": 1})
    assert (record.vendor, record.kind, record.name) == ("saytics", "event", "User Signed Up")
    assert (record.user_id, record.visitor_id, record.session_id) == ("user_1", VISITOR, None)
    assert (record.amount, record.page_url, record.warnings) == (49.9, "/buy", [])
    assert record.occurred_at == pytest.approx(1777629600.25)


def test_without_a_time_an_event_happened_when_it_came() -> None:
    assert one(ask(EVENTS, event(timestamp=None), BEARER)).occurred_at == NOW


def test_a_batch_is_taken_and_counted() -> None:
    outcome = ask(BATCH, {"events": [event(), event(event="Report Exported")]}, BEARER)
    assert outcome.reply.json == {"status": "ok", "received": 2}
    assert [record.name for record in outcome.records] == ["User Signed Up", "Report Exported"]


def test_one_bad_event_refuses_the_batch() -> None:
    outcome = ask(BATCH, {"events": [event(), event(event=3), 7]}, BEARER)
    assert outcome.reply.status == 400
    assert outcome.reply.json["error"]["message"] == "events[1].event: must be a string, not 3"
    assert [record.errors[0] for record in outcome.records] == [
        "events[1] was rejected, and the whole batch with it",
        "event: must be a string, not 3",
        "must be an object, not 7",
    ]
    assert outcome.records[2].raw == {"(not an object)": 7}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "events: must be a list of events, not None"),
        ({"events": []}, "events: must be a list of events, not a list"),
        ({"events": {}}, "events: must be a list of events, not an object"),
        ({"events": [event()] * 1001}, "events: must be at most 1000, not 1001"),
    ],
)
def test_a_batch_has_from_1_to_1000_events(body: Any, message: str) -> None:
    outcome = ask(BATCH, body, BEARER)
    assert outcome.reply.status == 400
    assert outcome.reply.json["error"]["message"] == message
    assert not any(record.accepted for record in outcome.records)
    assert ask(BATCH, {"events": [event()] * 1000}, BEARER).reply.status == 200


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"event": ""}, "event: must not be blank"),
        ({"event": None}, "event: is required"),
        ({"userId": None}, "userId: is required where there is no anonymousId"),
        ({"userId": " ", "anonymousId": ""}, "userId: is required where there is no anonymousId"),
        ({"userId": 7}, "userId: must be a string, not 7"),
        ({"properties": "a"}, "properties: must be an object, not 'a'"),
        ({"properties": {"a": "b" * 257}}, "properties.a: must be at most 256 characters, not 257"),
        ({"properties": {"a": [1] * 26}}, "properties.a: must be at most 25 elements, not 26"),
        ({"timestamp": "yesterday"}, "timestamp: must be an ISO 8601 time, not 'yesterday'"),
        ({"timestamp": 1777629600}, "timestamp: must be a string, not 1777629600"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp: must be an ISO 8601 time"),
        ({"timestamp": "9999-12-31T23:59:59-14:00"}, "timestamp: must be an ISO 8601 time"),
    ],
)
def test_a_broken_rule_refuses_the_event(changes: dict[str, Any], rule: str) -> None:
    outcome = ask(EVENTS, event(**changes), BEARER)
    assert outcome.reply.status == 400
    assert one(outcome).errors[0].startswith(rule)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"properties": {"a": None}}, "properties.a: None is not a value that the vendor documents"),
        ({"properties": {"a": {}}}, "properties.a: an object is not a value that the vendor documents"),
        (
            {"event": "user_signed_up"},
            'event: Saytics advises against snake_case names; write "User Signed Up" in place of "user_signed_up", or',
        ),
        ({"messageId": "1"}, "messageId: is not a field of the vendor"),
    ],
)
def test_what_is_not_documented_is_a_warning(changes: dict[str, Any], warning: str) -> None:
    record = one(ask(EVENTS, event(**changes), BEARER))
    assert record.accepted
    assert record.warnings[0].startswith(warning)


@pytest.mark.parametrize("name", ["User Signed Up", "signup", "$pageview", "_private", "a__b"])
def test_other_names_bring_no_warning(name: str) -> None:
    assert one(ask(EVENTS, event(event=name), BEARER)).warnings == []


def test_an_identification_needs_its_user() -> None:
    record = one(ask(IDENTIFY, {"userId": "user_1", "traits": {"name": "You"}}, BEARER))
    assert (record.kind, record.user_id, record.properties) == ("identify", "user_1", {"name": "You"})
    assert one(ask(IDENTIFY, {"anonymousId": "a"}, BEARER)).errors == ["userId: is required"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_key"),
        ({"authorization": "Basic abc"}, "missing_key"),
        ({"authorization": "Bearer "}, "missing_key"),
        ({"authorization": "Bearer wrong-key"}, "invalid_key"),
    ],
)
def test_a_key_is_needed(headers: dict[str, str], code: str) -> None:
    outcome = ask(EVENTS, event(), headers, keys=("sk_live_1",))
    assert outcome.reply.status == 401
    assert outcome.reply.json["error"]["code"] == code
    assert not one(outcome).accepted


def test_a_write_key_writes_and_does_not_read() -> None:
    write = {"authorization": "Bearer sk_write_1"}
    assert ask(EVENTS, event(), write).reply.status == 200
    assert ask(EVENTS, None, write, method="GET").reply.status == 401
    assert ask(EVENTS, None, BEARER, method="GET").reply.json == {"events": []}
    assert ask("/v1/users/user_1", None, BEARER, method="GET").reply.status == 404
    assert ask("/v1/users/user_1", None, BEARER, method="DELETE").reply.json == {"status": "ok"}


def test_browsers_are_told_by_origin_or_agent_and_name_their_page() -> None:
    seen = [
        one(ask(EVENTS, event(timestamp=TIME), {**BEARER, **headers}))
        for headers in (
            {"origin": "https://shop.example.com", "referer": "https://shop.example.com/buy"},
            {"user-agent": "Mozilla/5.0"},
            {"user-agent": "sessionsight-python/1", "referer": "https://shop.example.com/"},
        )
    ]
    assert [record.side for record in seen] == ["browser", "browser", "server"]
    assert [record.page_url for record in seen] == ["https://shop.example.com/buy", None, None]


def test_a_users_profile_is_what_was_said_of_them() -> None:
    records = [
        one(ask(IDENTIFY, {"userId": "user_1", "traits": {"name": "You", "plan": "free"}}, BEARER)),
        one(ask(EVENTS, event(), BEARER)),
        one(ask(IDENTIFY, {"userId": "user_1", "traits": {"plan": "pro"}}, BEARER)),
    ]
    profile = ask("/v1/users/user_1", None, BEARER, method="GET", known=lambda user_id: records).reply
    assert profile.json == {
        "id": "user_1",
        "traits": {"name": "You", "plan": "pro"},
        "created_at": "2026-05-01T10:00:00.000Z",
        "last_seen": "2026-05-01T10:00:00.250Z",
    }
