from typing import Any

import pytest

from sessionsight.inspector.ingest import visitors
from tests.core.inspector.calls import SESSION, VISITOR
from tests.core.inspector.ingest.asking import NOW, ask, one

PUBLIC = {"x-api-key": "sessionsight_pub_1"}
RECORDING, ANONYMOUS, CONFIG, EXPOSE = (
    "/v1/ingest",
    "/v1/ingest/anonymous",
    "/v1/split-testing/config",
    "/v1/split-testing/expose",
)


def recording(**changes: Any) -> dict[str, Any]:
    return {
        "sessionId": SESSION, "propertyId": "shop", "visitorId": VISITOR, "visitorToken": visitors.token_for(VISITOR),
        "events": [{"type": 4}, {"type": 2}], "seqStart": 0, "seqEnd": 1,
        "metadata": {"url": "https://shop.example.com/plans", "language": "en"}, **changes,
    }  # fmt: skip


def anonymous(*events: Any, **changes: Any) -> dict[str, Any]:
    return {
        "propertyId": "shop", "apiKey": "sessionsight_pub_1", "day": "2026-05-01", "ephemeralVisitorId": VISITOR,
        "ephemeralSessionId": SESSION, "events": list(events), **changes,
    }  # fmt: skip


def exposure(**changes: Any) -> dict[str, Any]:
    return {
        "splitTestKey": "checkout", "variationKey": "b", "sessionId": SESSION, "timestamp": NOW * 1000,
        "attributes": {"plan": "pro"}, **changes,
    }  # fmt: skip


def exposed(*exposures: Any, **changes: Any) -> dict[str, Any]:
    token = visitors.token_for(VISITOR)
    return {"propertyId": "shop", "visitorId": VISITOR, "visitorToken": token, "exposures": list(exposures), **changes}


# --- Recordings -----------------------------------------------------------------------------------


def test_a_piece_of_a_recording_is_one_event_without_the_page_itself() -> None:
    outcome = ask(RECORDING, recording(), PUBLIC)
    record = one(outcome)
    assert (outcome.reply.status, outcome.reply.json) == (200, {"success": True})
    assert (record.vendor, record.kind, record.name, record.side) == ("sessionsight", "event", "recording", "browser")
    assert (record.session_id, record.visitor_id, record.user_id) == (SESSION, VISITOR, None)
    assert (record.accepted, record.errors, record.warnings) == (True, [], [])
    assert record.page_url == "https://shop.example.com/plans"
    assert record.properties["events"] == 2
    assert record.raw["events"] == "2 in the call itself"


def test_whom_the_page_identifies_is_a_record_of_its_own() -> None:
    body = recording(id="user_1", email="ada@example.com", customProperties={"plan": "pro", "seats": 3, "trial": True})
    _, person = ask(RECORDING, body, PUBLIC).records
    assert (person.kind, person.name, person.user_id) == ("identify", "identify", "user_1")
    assert (person.session_id, person.visitor_id) == (SESSION, VISITOR)
    assert person.properties == {"plan": "pro", "seats": 3, "trial": True, "email": "ada@example.com"}


def test_a_new_visitor_gets_a_token_with_the_reply() -> None:
    body = recording()
    del body["visitorToken"]
    reply = ask(RECORDING, body, PUBLIC).reply.json
    assert visitors.visitor_of(reply["rotateVisitorToken"]) == VISITOR


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"sessionId": None}, "sessionId: is required"),
        ({"visitorId": None}, "visitorId: is required"),
        ({"propertyId": " "}, "propertyId: must not be blank"),
        ({"events": {}}, "events: must be a list, not an object"),
        ({"metadata": []}, "metadata: must be an object, not a list"),
        ({"seqEnd": "1"}, "seqEnd: must be a number, not '1'"),
        ({"id": "x" * 257}, "id: must be at most 256 characters, not 257"),
        ({"email": 7}, "email: must be a string, not 7"),
        ({"customProperties": {str(n): n for n in range(21)}}, "customProperties: must be at most 20, not 21"),
        ({"customProperties": {"n" * 129: 1}}, "customProperties: a name must be at most 128 characters"),
        ({"customProperties": {"a": "x" * 1025}}, "customProperties.a: must be at most 1024 characters"),
        ({"customProperties": {"a": None}}, "customProperties.a: must be text, a number or a boolean, not None"),
    ],
)
def test_a_broken_rule_refuses_the_recording(changes: dict[str, Any], rule: str) -> None:
    outcome = ask(RECORDING, recording(**changes), PUBLIC)
    assert outcome.reply.status == 400
    assert outcome.reply.json["error"]["message"] == rule
    assert all(not record.accepted for record in outcome.records)


def test_a_recording_needs_the_public_key() -> None:
    assert ask(RECORDING, recording()).reply.status == 401
    assert ask(RECORDING, recording(), {"x-api-key": "sessionsight_sec_1"}).reply.status == 401
    assert ask(RECORDING, recording(apiKey="sessionsight_pub_1")).reply.status == 200  # as a beacon sends it


# --- Without consent ------------------------------------------------------------------------------


def test_what_is_counted_without_consent_has_ids_of_the_page_only() -> None:
    view = {"tag": "pageview", "path": "/plans", "referrerHost": None, "isFirstPageview": True, "ts": NOW * 1000 - 500}
    outcome = ask(ANONYMOUS, anonymous(view, {"tag": "goal_count", "goalId": "user-signups", "ts": NOW * 1000}))
    page, goal = outcome.records
    assert (outcome.reply.status, outcome.reply.json) == (200, {"success": True})
    assert (page.kind, page.name, page.side, page.page_url) == ("event", "pageview", "browser", "/plans")
    assert (page.occurred_at, page.session_id, page.visitor_id) == (NOW - 0.5, SESSION, VISITOR)
    assert page.properties == {"path": "/plans", "referrerHost": None, "isFirstPageview": True}
    assert (goal.kind, goal.name, goal.amount, goal.accepted) == ("goal", "user-signups", 1, True)


@pytest.mark.parametrize(
    ("event", "rule"),
    [
        ({"tag": "goal_decrement", "goalId": "g", "ts": 1}, "tag: must be one of aggregate_click, error"),
        ({"tag": "goal_count", "ts": 1}, "goalId: is required"),
        ({"tag": "pageview"}, "ts: must be milliseconds since 1970, not None"),
        ({"tag": "pageview", "ts": -1}, "ts: must be milliseconds since 1970, not -1"),
        ("pageview", "must be an object, not 'pageview'"),
    ],
)
def test_a_decrement_and_other_tags_are_refused_with_the_whole_batch(event: Any, rule: str) -> None:
    outcome = ask(ANONYMOUS, anonymous({"tag": "error", "ts": 1}, event))
    assert outcome.reply.status == 400
    assert outcome.reply.json["error"]["message"].startswith(f"events[1].{rule}")
    assert [record.accepted for record in outcome.records] == [False, False]


def test_an_amount_is_not_counted_without_consent() -> None:
    event = {"tag": "goal_count", "goalId": "revenue", "amount": 49, "ts": 1}
    record = one(ask(ANONYMOUS, anonymous(event)))
    assert (record.amount, record.warnings) == (1, ["amount: is not counted without consent"])


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"ephemeralVisitorId": None}, "events[0].ephemeralVisitorId: is required"),
        ({"events": 7}, "events: must be a list, not 7"),
        ({"events": [{"tag": "error", "ts": 1}] * 101}, "events[0].events: must be at most 100, not 101"),
    ],
)
def test_a_broken_envelope_refuses_all(changes: dict[str, Any], rule: str) -> None:
    outcome = ask(ANONYMOUS, anonymous({"tag": "error", "ts": 1}, **changes))
    assert outcome.reply.status == 400
    assert outcome.reply.json["error"]["message"] == rule


# --- Split tests ----------------------------------------------------------------------------------


def test_there_are_no_split_tests_to_run() -> None:
    reply = ask(CONFIG, headers=PUBLIC, method="GET", query={"propertyId": "shop"}).reply
    assert (reply.status, reply.json) == (200, {"tests": []})
    assert ask(CONFIG, headers=PUBLIC, method="GET").reply.status == 400
    assert ask(CONFIG, method="GET").reply.status == 401


def test_an_exposure_is_an_event_of_the_visitors_session() -> None:
    outcome = ask(EXPOSE, exposed(exposure()))  # a beacon, which can bear no header
    record = one(outcome)
    assert (outcome.reply.status, record.accepted, record.warnings) == (200, True, [])
    assert (record.kind, record.name) == ("event", "split test checkout")
    assert (record.session_id, record.visitor_id, record.occurred_at) == (SESSION, VISITOR, NOW)
    assert record.properties == {"variation": "b", "plan": "pro"}


def test_an_exposure_without_a_token_is_a_warning() -> None:
    record = one(ask(EXPOSE, exposed(exposure(), visitorToken=None), PUBLIC))
    assert record.visitor_id == VISITOR
    assert record.warnings[0].startswith("visitorToken: is missing")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"splitTestKey": ""}, "splitTestKey: must not be blank"),
        ({"variationKey": None}, "variationKey: is required"),
        ({"sessionId": 7}, "sessionId: must be a string, not 7"),
        ({"timestamp": "now"}, "timestamp: must be milliseconds since 1970, not 'now'"),
        ({"attributes": []}, "attributes: must be an object, not a list"),
    ],
)
def test_a_broken_rule_refuses_the_exposures(changes: dict[str, Any], rule: str) -> None:
    outcome = ask(EXPOSE, exposed(exposure(), exposure(**changes)))
    assert outcome.reply.json["error"]["message"] == f"exposures[1].{rule}"
    assert ask(EXPOSE, exposed(exposures=None)).reply.status == 400


def test_a_wrong_key_refuses_exposures_as_well() -> None:
    assert ask(EXPOSE, exposed(exposure()), {"x-api-key": "sessionsight_sec_1"}).reply.status == 401
