from typing import Any

import pytest

from tests.core.inspector.calls import SIGNAL, VISITOR, batch, capture
from tests.core.inspector.ingest.asking import ask, one

CAPTURE = "/v1/capture"


def test_an_event_is_taken_in_its_session_and_window() -> None:
    sent = capture(sessionId="session", windowId="window", properties={"$current_url": "/buy", "amount": 49})
    record = one(ask(CAPTURE, batch(sent), SIGNAL))
    assert (record.vendor, record.kind, record.accepted) == ("signal", "event", True)
    assert (record.session_id, record.window_id, record.user_id) == ("session", "window", "user_1")
    assert (record.page_url, record.amount, record.warnings) == ("/buy", 49, [])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("$identify", "identify"),
        ("$set", "person"),
        ("$set_once", "person"),
        ("$pageview", "event"),
    ],
)
def test_names_tell_the_kind(name: str, kind: str) -> None:
    assert one(ask(CAPTURE, batch(capture(event=name)), SIGNAL)).kind == kind


def test_an_id_of_a_browser_is_a_visitors_until_it_is_identified() -> None:
    seen = ask(CAPTURE, batch(capture(distinctId=VISITOR), capture(event="$identify", distinctId=VISITOR)), SIGNAL)
    assert [(record.user_id, record.visitor_id) for record in seen.records] == [(None, VISITOR), (VISITOR, None)]


def test_an_alias_ties_a_visitor_to_a_user() -> None:
    record = one(ask(CAPTURE, batch(capture(event="$create_alias", properties={"alias": VISITOR})), SIGNAL))
    assert (record.kind, record.user_id, record.visitor_id) == ("alias", "user_1", VISITOR)


def test_a_groups_own_properties_need_nobody() -> None:
    group = {"groupType": "company", "groupKey": "acme-1", "groupProperties": {"seats": 5}}
    record = one(ask(CAPTURE, batch(capture(event="$groupidentify", distinctId=None, properties=group)), SIGNAL))
    assert (record.kind, record.accepted, record.user_id) == ("group", True, None)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"event": None}, "event: is required"),
        ({"distinctId": None}, "distinctId: is required"),
        ({"distinctId": ""}, "distinctId: must not be blank"),
        ({"timestamp": "x"}, "timestamp: must be an ISO 8601 time"),
        ({"properties": 1}, "properties: must be an object, not 1"),
        ({"groups": {"company": 1}}, "groups.company: must be a string, not 1"),
        ({"sessionId": 1}, "sessionId: must be a string, not 1"),
        ({"event": "$create_alias"}, "properties.alias: is required"),
        ({"event": "$group_assign", "properties": {"groupType": "a"}}, "properties.groupKey: is required"),
        ({"event": "$groupidentify"}, "properties.groupType: is required"),
    ],
)
def test_a_broken_rule_refuses_the_event(changes: dict[str, Any], rule: str) -> None:
    outcome = ask(CAPTURE, batch(capture(**changes)), SIGNAL)
    assert outcome.reply.status == 400
    assert one(outcome).errors[0].startswith(rule)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"projectId": 7}, "projectId: must be a string, not 7"),
        ({"sentAt": "x"}, "sentAt: must be an ISO 8601 time, not 'x'"),
        ({"events": None}, "events: must be a list of events, not None"),
    ],
)
def test_a_broken_envelope_refuses_what_is_in_it(changes: dict[str, Any], rule: str) -> None:
    outcome = ask(CAPTURE, batch(capture(), **changes), SIGNAL)
    assert outcome.reply.json["error"]["message"] == rule
    assert all(record.errors == [rule] for record in outcome.records)


@pytest.mark.parametrize(
    ("headers", "body"),
    [(SIGNAL, {}), ({"x-api-key": "signal_key_1"}, {}), ({}, {"apiKey": "signal_key_1"})],
)
def test_the_key_may_stand_in_three_places(headers: dict[str, str], body: dict[str, str]) -> None:
    outcome = ask(CAPTURE, batch(capture(), **body), headers, keys=("signal_key_1",))
    assert outcome.reply.status == 200
    assert ask(CAPTURE, batch(capture()), keys=("signal_key_1",)).reply.json["error"]["code"] == "missing_key"
