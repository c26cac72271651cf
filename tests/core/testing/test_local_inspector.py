"""A local inspector that receives real requests."""

from __future__ import annotations

import sys

import httpx
import pytest

from sessionsight import Client, MissingDependencyError, Settings, TrackingContext
from sessionsight.request.context import SessionSightIds
from sessionsight.testing import LocalInspector, run_inspector


def client_for(inspector: LocalInspector) -> Client:
    return Client(Settings.from_mapping({"linger": 0, "destinations": inspector.destinations}))


def test_records_of_all_vendors_are_accepted(sessionsight_inspector: LocalInspector) -> None:
    client = client_for(sessionsight_inspector)
    context = TrackingContext(sessionsight=SessionSightIds(session_id="session-1"))
    analytics = client.bind(context, user_id="user_1")
    analytics.capture("order_processed", {"order_id": "ord_1"})
    analytics.goals.increment("monthly-revenue", amount=49)
    found = sessionsight_inspector.wait(4)
    assert {(record.vendor, record.kind, record.name) for record in found} == {
        ("sessionsight", "goal", "monthly-revenue"),
        ("signal", "event", "order_processed"),
        ("saytics", "event", "order_processed"),
        ("analyse", "event", "order_processed"),
    }
    assert all(record.accepted for record in found)
    [goal] = sessionsight_inspector.goals()
    assert (goal.goal_id, goal.total) == ("monthly-revenue", 49)
    [record] = sessionsight_inspector.records(vendor="signal", event="order_processed", user="user_1")
    assert record.properties["order_id"] == "ord_1"
    assert sessionsight_inspector.records(status="refused") == []
    sessionsight_inspector.clear()
    assert sessionsight_inspector.records() == []


def test_flags_are_answered_over_http(sessionsight_inspector: LocalInspector) -> None:
    sessionsight_inspector.flags["new-checkout"] = True
    configured = Client(
        Settings.from_mapping({"destinations": {"sessionsight": {"secret_api_key": "k", "property_id": "p"}}})
    )
    for client in (configured, Client(Settings())):
        flags = client.for_request("ss_vid=visitor-1").flags
        assert (flags.get("new-checkout"), [one.key for one in flags.list()]) == (True, ["new-checkout"])


def test_records_are_in_the_order_of_their_arrival(sessionsight_inspector: LocalInspector) -> None:
    client = client_for(sessionsight_inspector)
    for name in ("first", "second"):
        client.analytics.capture(name, user_id="user_1", destinations=["signal"])
        assert client.flush(10)
    assert [record.name for record in sessionsight_inspector.wait(2)] == ["first", "second"]


def test_dropped_records_are_shown_if_none_is_received(sessionsight_inspector: LocalInspector) -> None:
    client = client_for(sessionsight_inspector)
    client.bind(TrackingContext.from_carrier({"ss_opted_out": "1"})).capture("seen", user_id="user_1")
    with pytest.raises(AssertionError, match=r"captured and dropped:\n    event 'seen'.* \(consent\)$"):
        sessionsight_inspector.wait(timeout=0)


def test_a_missing_record_fails_the_test_and_received_ones_are_shown(sessionsight_inspector: LocalInspector) -> None:
    with pytest.raises(AssertionError, match="0 of 1 records arrived within 0 s\n\nnothing was captured"):
        sessionsight_inspector.wait(timeout=0)
    client_for(sessionsight_inspector).analytics.capture("seen", {"a": 1}, user_id="user_1", destinations=["signal"])
    sessionsight_inspector.wait(event="seen")
    with pytest.raises(AssertionError) as failure:
        sessionsight_inspector.wait(2, timeout=0, vendor="saytics")
    lines = str(failure.value).splitlines()
    assert lines[:3] == ["0 of 2 records vendor='saytics' arrived within 0 s", "", "arrived:"]
    assert lines[3].startswith("    signal: event 'seen'  {")
    assert lines[-2:] == ["captured:", "    event 'seen'  user_id='user_1'  {a=1}"]


def test_a_rejected_record_is_shown_with_its_errors(sessionsight_inspector: LocalInspector) -> None:
    address = f"{sessionsight_inspector.url}/v1/goals/increment"
    httpx.post(address, json={"goalId": 7}, headers={"x-api-key": "test"}, timeout=10)
    [record] = sessionsight_inspector.wait(status="refused")
    assert "goalId" in record.errors[0]
    with pytest.raises(AssertionError, match=r"sessionsight: goal .* refused: goalId"):
        sessionsight_inspector.wait(2, timeout=0)


def test_a_filter_that_does_not_exist_is_an_error(sessionsight_inspector: LocalInspector) -> None:
    with pytest.raises(TypeError, match="evnt"):
        sessionsight_inspector.records(evnt="seen")  # type: ignore[call-arg]


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sessionsight.inspector.server", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sessionsight\[inspector\]'"), run_inspector():
        pass
