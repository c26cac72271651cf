from typing import Any

import pytest

from sessionsight.inspector.ingest import visitors
from tests.core.inspector.calls import SECRET, SESSION, VISITOR, goal
from tests.core.inspector.ingest.asking import NOW, ask, one

INCREMENT, DECREMENT = "/v1/goals/increment", "/v1/goals/decrement"


def test_a_goal_is_taken_and_counted_in_its_session() -> None:
    outcome = ask(INCREMENT, goal(amount=49.9, metadata={"plan": "pro"}), SECRET)
    record = one(outcome)
    assert (outcome.reply.status, outcome.reply.json) == (200, {"success": True})
    assert (record.vendor, record.kind, record.name, record.side) == ("sessionsight", "goal", "user-signups", "server")
    assert (record.accepted, record.errors, record.warnings) == (True, [], [])
    assert (record.session_id, record.visitor_id, record.user_id) == (SESSION, None, None)
    assert (record.amount, record.properties, record.occurred_at) == (49.9, {"plan": "pro"}, NOW)


def test_a_decrement_is_negative_and_its_amount_on_the_wire_is_not() -> None:
    assert one(ask(DECREMENT, goal(amount=3), SECRET)).amount == -3
    assert "amount: must be above zero" in one(ask(DECREMENT, goal(amount=-3), SECRET)).errors[0]


def test_an_amount_is_one_unless_given() -> None:
    body = goal()
    del body["amount"]
    assert one(ask(INCREMENT, body, SECRET)).amount == 1


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"goalId": None}, "goalId: is required"),
        ({"goalId": "  "}, "goalId: must not be blank"),
        ({"goalId": 7}, "goalId: must be a string, not 7"),
        ({"propertyId": None}, "propertyId: is required"),
        ({"amount": "49"}, "amount: must be a number, not '49'"),
        ({"amount": True}, "amount: must be a number, not True"),
        ({"amount": None}, "amount: must be a number, not None"),
        ({"amount": [1]}, "amount: must be a number, not a list"),
        ({"amount": 0}, "amount: must be above zero and finite, for a decrement as well, not 0"),
        ({"amount": 10**400}, "amount: must be above zero and finite"),
        ({"sessionId": None}, "sessionId: is required"),
        ({"sessionId": "a_b"}, "sessionId: must be at most 128 letters, digits and hyphens, not 'a_b'"),
        ({"sessionId": "a" * 129}, "sessionId: must be at most 128"),
        ({"sessionId": "é"}, "sessionId: must be at most 128"),
        ({"metadata": ["a"]}, "metadata: must be an object, not a list"),
        ({"metadata": {"seats": 3}}, "metadata.seats: must be a string, not 3"),
        ({"metadata": {str(n): "" for n in range(6)}}, "metadata: must have at most 5 keys, not 6"),
        ({"metadata": {"a": "b" * 257}}, "metadata.a: must be at most 256 characters, not 257"),
        ({"metadata": {"a": "\U0001f600" * 129}}, "metadata.a: must be at most 256 characters, not 258"),
        ({"metadata": {"a" * 257: "b"}}, "metadata: a key must be at most 256 characters, not 257"),
    ],
)
def test_a_broken_rule_refuses_the_goal_and_is_the_error(changes: dict[str, Any], rule: str) -> None:
    outcome = ask(INCREMENT, goal(**changes), SECRET)
    record = one(outcome)
    assert not record.accepted
    assert record.errors[0].startswith(rule)
    assert outcome.reply.status == 400
    assert outcome.reply.json == {"error": {"code": "VALIDATION_ERROR", "message": record.errors[0]}}


def test_the_limits_themselves_are_allowed() -> None:
    metadata = {"a" * 256: "b" * 256} | {str(n): "" for n in range(4)}
    assert one(ask(INCREMENT, goal(sessionId="a" * 128, metadata=metadata), SECRET)).accepted


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"goalId": "User Signups"}, "goalId: goals have slugs"),
        ({"userId": "user_1"}, "userId: is not a field of the vendor"),
        ({"metadata": {"card": "4242 4242 4242 4242"}}, "metadata.card: looks like"),
        ({"visitorToken": "v1.x.y"}, "visitorToken: is not a field"),
        ({"visitorId": VISITOR}, "visitorId: is not a field"),
    ],
)
def test_what_is_taken_and_still_unwise_is_a_warning(changes: dict[str, Any], warning: str) -> None:
    record = one(ask(INCREMENT, goal(**changes), SECRET))
    assert record.accepted
    assert record.warnings[0].startswith(warning)


@pytest.mark.parametrize(
    ("headers", "keys", "message"),
    [
        ({}, (), "x-api-key: there is no key"),
        ({"x-api-key": "  "}, (), "x-api-key: there is no key"),
        ({"x-api-key": "sessionsight_pub_1"}, (), "x-api-key: must be the secret key, not sessions…"),
        ({"x-api-key": "another-key-1"}, ("right",), "x-api-key: another-… is not one of the keys"),
    ],
)
def test_a_wrong_key_refuses_everything_and_is_never_shown_whole(
    headers: dict[str, str], keys: tuple[str, ...], message: str
) -> None:
    outcome = ask(INCREMENT, goal(), headers, keys=keys)
    assert outcome.reply.status == 401
    assert outcome.reply.json["error"]["code"] == "UNAUTHORIZED"
    assert outcome.reply.json["error"]["message"].startswith(message)
    assert one(outcome).errors == [outcome.reply.json["error"]["message"]]


def test_the_right_key_is_enough() -> None:
    assert one(ask(INCREMENT, goal(), {"x-api-key": "right"}, keys=("right",))).accepted


def test_a_browsers_goal_has_its_key_in_the_body_and_its_visitor_in_the_token() -> None:
    granted = ask("/v1/sdk/visitor/bootstrap", {"propertyId": "shop", "clientVisitorId": VISITOR}, SECRET_FREE).reply
    assert granted.json["visitorId"] == VISITOR
    assert granted.json["issuedAt"] == NOW * 1000
    assert 55 <= len(granted.json["visitorToken"]) <= 80
    token = granted.json["visitorToken"]
    body = goal(apiKey="sessionsight_pub_12345", visitorId=VISITOR, visitorToken=token)
    outcome = ask("/v1/sdk/goals/increment", body, {"content-type": "text/plain"})
    record = one(outcome)
    assert (record.accepted, record.side, record.visitor_id) == (True, "browser", VISITOR)
    assert record.warnings == []
    assert record.raw["apiKey"] == "sessions…"
    assert outcome.key == "sessionsight_pub_12345"


SECRET_FREE = {"x-api-key": "sessionsight_pub_1"}


def test_a_browsers_goal_without_a_token_is_its_visitors_by_its_own_word() -> None:
    record = one(ask("/v1/sdk/goals/increment", goal(apiKey="sessionsight_pub_12345", visitorId=VISITOR)))
    assert (record.accepted, record.visitor_id) == (True, VISITOR)
    assert record.warnings == ["visitorToken: is missing; the vendor's SDK waits for one before it sends a goal"]


def test_a_secret_key_in_a_browser_is_refused() -> None:
    outcome = ask("/v1/sdk/goals/increment", goal(apiKey="sessionsight_sec_12345"))
    assert outcome.reply.status == 401
    assert one(outcome).errors == ["apiKey: must be the public key, not sessions…"]


def test_a_key_that_is_not_text_is_rejected() -> None:
    assert ask("/v1/sdk/goals/increment", goal(apiKey=7)).reply.status == 401


def test_only_uuids_are_taken_back_as_visitors() -> None:
    reply = ask("/v1/sdk/visitor/bootstrap", {"propertyId": "shop", "clientVisitorId": "me"}, SECRET_FREE).reply
    assert reply.json["visitorId"] != "me"
    assert visitors.visitor_of(reply.json["visitorToken"]) == reply.json["visitorId"]


@pytest.mark.parametrize("token", ["", "v1", "v1.", "v1.!!!!.x", "v1.AAAA.x", "v1.\u00e9.x", "a.b.c.d"])
def test_foreign_tokens_are_nobody(token: str) -> None:
    assert visitors.visitor_of(token) is None


def test_a_bootstrap_without_a_property_is_refused() -> None:
    assert ask("/v1/sdk/visitor/bootstrap", {}, SECRET_FREE).reply.status == 400


def test_flags_are_those_of_the_inspector() -> None:
    request = {"propertyId": "shop", "environment": "live", "context": {}}
    flags = {"new-checkout": True, "cta-color": "green"}
    assert ask("/v1/flags/evaluate", request, SECRET, flags=flags).reply.json == {
        "flags": {
            "new-checkout": {"value": True, "type": "boolean"},
            "cta-color": {"value": "green", "type": "string"},
        }
    }
    listed = ask("/v1/flags/list", headers=SECRET, method="GET", query={"propertyId": "shop"}, flags=flags).reply.json
    assert [(one["key"], one["type"], one["defaultValue"]) for one in listed["flags"]] == [
        ("new-checkout", "boolean", True),
        ("cta-color", "string", "green"),
    ]


def test_flags_are_none_and_feedback_is_kept() -> None:
    evaluated = ask("/v1/flags/evaluate", {"propertyId": "shop", "environment": "live", "context": {}}, SECRET)
    assert evaluated.reply.json == {"flags": {}}
    assert ask("/v1/flags/evaluate", {"propertyId": "shop"}, SECRET).reply.status == 400
    assert ask("/v1/flags/list", headers=SECRET, method="GET").reply.status == 400
    given = {"feedbackTypeId": "nps", "propertyId": "shop", "sessionId": SESSION, "option": "9"}
    record = one(ask("/v1/feedback/submit", given, SECRET))
    assert (record.accepted, record.kind, record.name) == (True, "event", "feedback nps")
    assert record.properties == {"option": "9"}
    assert not one(ask("/v1/feedback/submit", {**given, "sessionId": ""}, SECRET)).accepted


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body: must be JSON"),
        (b"{", "body: must be JSON"),
        (b"\xff", "body: must be JSON"),
        (b"[]", "body: must be an object, not list"),
        (b'{"metadata":' + b"[" * 200 + b"]" * 200 + b"}", "body: is nested more than 100 deep"),
        (b'{"metadata":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "body: "),  # whether it is parsed depends on Python
    ],
)
def test_invalid_json_is_the_vendors_error_and_no_record(body: bytes, message: str) -> None:
    outcome = ask(INCREMENT, body, SECRET)
    assert outcome.reply.status == 400
    assert outcome.reply.json["error"]["message"].startswith(message)
    assert not outcome.records
