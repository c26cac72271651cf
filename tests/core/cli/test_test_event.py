from __future__ import annotations

import json

import pytest

from tests.core.cli.commands import run
from tests.support.server import Server, reply


@pytest.fixture(autouse=True)
def _vendors(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNAL_API_KEY", "key_1")
    monkeypatch.setenv("SIGNAL_PROJECT_ID", "shop")
    monkeypatch.setenv("SIGNAL_ENDPOINT", server.url)


def test_an_event_is_delivered(server: Server) -> None:
    result = run("test-event")
    assert (result.exit_code, result.output) == (0, "ok       signal  delivered: event 'sessionsight_test'\n")
    [request] = server.wait_for(1)
    assert request.json["events"][0]["event"] == "sessionsight_test"


def test_a_rejected_event_exits_with_1_also_with_json(server: Server) -> None:
    server.will(reply(422, body=b'{"error": "no such project"}'))
    result = run("test-event", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "ok": False,
        "findings": [
            {
                "level": "error",
                "subject": "signal",
                "message": "not delivered: refused, HTTP 422, no such project",
                "hint": "",
            }
        ],
    }


def test_a_goal_is_sent_to_destinations_that_accept_goals(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SECRET_API_KEY", "key_2"), ("PROPERTY_ID", "p"), ("API_URL", server.url)):
        monkeypatch.setenv(f"SESSIONSIGHT_{name}", value)
    result = run("test-event", "--goal", "user-signups", "--session-id", "6f1d2c3b", "--timeout", "20")
    assert result.exit_code == 0
    assert "delivered: goal 'user-signups'" in result.output
    assert any(b"6f1d2c3b" in request.body for request in server.wait_for(2))


def test_an_invalid_goal_exits_with_2(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SECRET_API_KEY", "key_2"), ("PROPERTY_ID", "p"), ("API_URL", server.url)):
        monkeypatch.setenv(f"SESSIONSIGHT_{name}", value)
    result = run("test-event", "--goal", " ")
    assert result.exit_code == 2
    assert "Usage: " in result.output
