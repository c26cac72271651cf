from typing import Any

import pytest

from tests.core.inspector.calls import SESSION, VISITOR, pulse, pulses
from tests.core.inspector.ingest.asking import NOW, ask, one

BATCH = "/v1/batch"


def test_a_batch_is_taken() -> None:
    sent = pulse(
        person_id="user_1", session_id=SESSION, url="https://shop.example.com/buy", properties={"amount": 4900}
    )
    outcome = ask(BATCH, pulses(sent, pulse(event_name="$identify", person_id="user_1")))
    event, person = outcome.records
    assert outcome.reply.status == 200
    assert (event.vendor, event.kind, event.name) == ("analyse", "event", "signup_completed")
    assert (event.user_id, event.visitor_id, event.session_id) == ("user_1", VISITOR, SESSION)
    assert (event.amount, event.page_url, event.warnings) == (4900, "https://shop.example.com/buy", [])
    assert (person.kind, person.accepted) == ("identify", True)
    assert outcome.key == "pk_live_1"


def test_a_body_that_cannot_be_read_is_an_error_of_the_body() -> None:
    """A client stops at a wrong key, but gives up a single record whose body is wrong."""
    reply = ask(BATCH, b'{"publicKey": "pk_live_1", "events": [1E+1000000]}').reply
    assert reply.status == 400
    assert reply.json["error"].startswith("body: must be JSON")
    assert ask(BATCH, b'{"events": []}').reply.status == 401


def test_an_empty_batch_is_none() -> None:
    assert ask(BATCH, pulses()).reply.status == 200


def test_a_person_whose_id_is_used_as_anonymous_id_is_not_a_visitor() -> None:
    record = one(ask(BATCH, pulses(pulse(anonymous_id="user_1", person_id="user_1"))))
    assert (record.user_id, record.visitor_id) == ("user_1", None)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"event_name": ""}, "event_name: must not be blank"),
        ({"anonymous_id": ""}, "anonymous_id: must not be blank"),
        ({"anonymous_id": None}, "anonymous_id: is required"),
        ({"person_id": 7}, "person_id: must be a string, not 7"),
        ({"event_name": "$identify"}, "person_id: is required"),
        ({"timestamp": "now"}, "timestamp: must be an ISO 8601 time"),
        ({"url": []}, "url: must be a string, not a list"),
        ({"utm_source": 1}, "utm_source: must be a string, not 1"),
        ({"screen_w": "1"}, "screen_w: must be a number, not '1'"),
        ({"properties": []}, "properties: must be an object, not a list"),
    ],
)
def test_a_broken_rule_refuses_the_event(changes: dict[str, Any], rule: str) -> None:
    outcome = ask(BATCH, pulses(pulse(**changes)))
    assert outcome.reply.status == 400
    assert one(outcome).errors[0].startswith(rule)
    assert outcome.reply.json == {"error": f"events[0].{one(outcome).errors[0]}"}


def test_a_time_is_always_there() -> None:
    event = pulse()
    del event["timestamp"]
    assert one(ask(BATCH, pulses(event))).errors == ["timestamp: is required"]


@pytest.mark.parametrize("changes", [{"person_id": None}, {"url": ""}, {"screen_w": 1280}, {"properties": {"a": None}}])
def test_nulls_and_empty_texts_are_sent_by_the_vendors_own_sdk(changes: dict[str, Any]) -> None:
    record = one(ask(BATCH, pulses(pulse(**changes))))
    assert (record.accepted, record.warnings) == (True, [])


@pytest.mark.parametrize(
    ("name", "properties", "warning"),
    [
        ("checkout_started", {"payment_type": "subscription"}, "properties.billing_interval"),
        ("checkout_finished", {"payment_type": "one_time"}, "properties.amount"),
        ("checkout_finished", {"amount": -1}, "properties.amount"),
        ("content_viewed", {"content_id": " "}, "properties.content_id"),
    ],
)
def test_the_vendors_own_warnings_are_given(name: str, properties: dict[str, Any], warning: str) -> None:
    record = one(ask(BATCH, pulses(pulse(event_name=name, properties=properties))))
    assert record.accepted
    assert [text.partition(":")[0] for text in record.warnings] == [warning]


def test_a_finished_checkout_may_cost_nothing() -> None:
    finished = pulse(event_name="checkout_finished", properties={"amount": 0, "payment_type": "one_time"})
    assert one(ask(BATCH, pulses(finished))).warnings == []


@pytest.mark.parametrize("key", [None, "", " ", 7, "sk_live_1", "pk_live_2"])
def test_the_public_key_stands_in_the_body(key: Any) -> None:
    outcome = ask(BATCH, pulses(pulse(), publicKey=key), keys=("pk_live_1",))
    assert outcome.reply.status == 401
    assert not one(outcome).accepted


@pytest.mark.parametrize("body", [{"publicKey": "pk"}, {"publicKey": "pk", "events": 1}])
def test_events_are_a_list(body: Any) -> None:
    outcome = ask(BATCH, body)
    assert (outcome.reply.status, outcome.records) == (400, ())


def test_a_single_event_needs_no_time() -> None:
    event = pulse(anonymous_id=VISITOR)
    del event["timestamp"]
    outcome = ask("/v1/event", {"publicKey": "pk_live_1", "event": event}, {"content-type": "text/plain"})
    record = one(outcome)
    assert (outcome.reply.status, record.accepted, record.occurred_at) == (200, True, NOW)
    assert (record.name, record.visitor_id) == ("signup_completed", VISITOR)
    assert outcome.key == "pk_live_1"


def test_a_single_event_is_judged_like_one_of_a_batch() -> None:
    refused = ask("/v1/event", {"publicKey": "pk_live_1", "event": pulse(anonymous_id="")})
    assert (refused.reply.status, refused.reply.json) == (400, {"error": "event.anonymous_id: must not be blank"})
    assert ask("/v1/event", {"publicKey": "pk_live_1", "events": []}).reply.status == 400
    assert ask("/v1/event", {"publicKey": "sk_live_1", "event": pulse()}).reply.status == 401
