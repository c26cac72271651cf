"""Checks, test events and the ledger's table, with a real server and realistic keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from sessionsight import Client, InvalidGoalError, Settings
from sessionsight.destinations import Signal
from sessionsight.diagnosis import Finding, check, has_errors, report_lines, send_test_event, stats_lines
from sessionsight.test_mode import test_mode
from sessionsight.testing import suppress_delivery
from tests.core.box import Box, BoxDestination
from tests.support.ports import free_port
from tests.support.server import Server, reply, silence

SIGNAL = {"signal": {"api_key": "key_1", "project_id": "shop"}}


def client_for(destinations: Any, **options: Any) -> Client:
    return Client(Settings.from_mapping({"destinations": destinations, "linger": 0, **options}))


def found(findings: list[Finding], subject: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in findings if finding.subject == subject]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def signal_at(server: Server) -> dict[str, Any]:
    return {"signal": {"api_key": "key_1", "endpoint": server.url}}


# --- check ----------------------------------------------------------------------------------------


def test_a_check_distinguishes_settings_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(check(client_for(SIGNAL)), "signal") == [("ok", "configured by the settings")]
    monkeypatch.setenv("SIGNAL_API_KEY", "key_1")
    monkeypatch.setenv("SIGNAL_PROJECT_ID", "shop")
    findings = check(Client())
    assert found(findings, "signal") == [("ok", "configured by the environment (SIGNAL_API_KEY, SIGNAL_PROJECT_ID)")]
    assert not has_errors(findings)


def test_a_check_of_a_client_with_settings_of_its_own_ignores_wrong_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSIGHT_DISABLED", "perhaps")
    client = Client(Settings(destinations=(Signal(api_key="key_1", project_id="shop"),)))
    assert found(check(client), "signal") == [("ok", "configured by the settings")]


def test_a_check_names_the_variable_that_is_missing() -> None:
    findings = check(client_for(SIGNAL), environ={"SESSIONSIGHT_SECRET_API_KEY": "sessionsight_sec_1"})
    assert found(findings, "sessionsight") == [
        ("warning", "is off: the environment has SESSIONSIGHT_SECRET_API_KEY, but not SESSIONSIGHT_PROPERTY_ID")
    ]


def test_a_check_without_destinations_has_a_hint() -> None:
    [finding, *_] = check(client_for({}), environ={})
    assert (finding.level, finding.subject) == ("warning", "destinations")
    assert "SIGNAL_API_KEY" in finding.hint


def test_a_check_warns_of_disabled_analytics() -> None:
    assert found(check(client_for(SIGNAL, disabled=True)), "disabled") == [("warning", "is on: nothing is sent")]


def test_a_check_warns_of_urls_of_this_machine() -> None:
    findings = check(client_for({"signal": {"api_key": "k", "endpoint": "http://localhost:8000"}}))
    assert found(findings, "signal")[1] == (
        "warning",
        "endpoint: http://localhost:8000 is this machine, not the vendor",
    )


# A key with a line end is rejected when its destination is created, so a function returns it.
@pytest.mark.parametrize("key", ["...", "schlüssel", "two\nlines"])
def test_a_check_finds_invalid_keys_without_showing_them(key: str) -> None:
    findings = check(client_for({"signal": {"api_key": lambda: key}}))
    assert has_errors(findings)
    [(level, message)] = found(findings, "signal")
    assert level == "error"
    assert key not in message.replace("dots", "")


def test_a_check_finds_a_key_function_that_fails() -> None:
    def broken() -> str:
        raise OSError("secret_of_the_vault")

    [(level, message)] = found(check(client_for({"signal": {"api_key": broken}})), "signal")
    assert (level, message) == ("error", "api_key: the function for the key failed with OSError")


@pytest.mark.parametrize(
    ("name", "option", "key"),
    [
        ("saytics", "secret_key", "sk_live_123456"),
        ("analyse", "public_key", "pk_live_123456"),
        ("sessionsight", "secret_api_key", "sessionsight_sec_123456"),
    ],
)
def test_a_check_warns_of_production_keys_in_debug_mode(name: str, option: str, key: str) -> None:
    options = {option: key, **({"property_id": "p"} if name == "sessionsight" else {})}
    findings = check(client_for({name: options}, strict=True))
    assert [level for level, _ in found(findings, "strict")] == ["ok", "warning"]
    assert key not in str(report_lines(findings))
    assert len(found(check(client_for({name: options})), "strict")) == 1


def test_a_key_that_cannot_be_read_is_reported_once_in_debug_mode() -> None:
    def fail() -> str:
        raise OSError

    findings = check(client_for({"signal": {"api_key": fail}}, strict=True))
    assert [level for level, _ in found(findings, "strict")] == ["ok"]
    assert [level for level, _ in found(findings, "signal")] == ["error"]


def test_keys_for_local_urls_are_not_production_keys() -> None:
    client = client_for({"saytics": {"secret_key": "sk_live_local", "api_url": "http://127.0.0.1:7717"}}, strict=True)
    assert [level for level, _ in found(check(client), "strict")] == ["ok"]


def test_a_custom_destination_is_checked() -> None:
    client = Client(Settings(destinations=(BoxDestination(),)))
    assert found(check(client), "box") == [("ok", "configured by the settings")]


# --- test events ----------------------------------------------------------------------------------


def test_a_test_event_is_delivered_and_marked(server: Server) -> None:
    findings = send_test_event(client_for(signal_at(server)), 10)
    assert found(findings, "signal") == [("ok", "delivered: event 'sessionsight_test'")]
    [request] = server.wait_for(1)
    [event] = request.json["events"]
    assert (event["event"], event["distinctId"], event["properties"]) == (
        "sessionsight_test",
        "sessionsight_test",
        {"test": True},
    )


def test_a_rejected_test_event_is_reported_with_the_vendors_message(server: Server) -> None:
    server.will(reply(400, body=b'{"error": "no such project"}'))
    findings = send_test_event(client_for(signal_at(server)), 10)
    assert found(findings, "signal") == [("error", "not delivered: refused, HTTP 400, no such project")]
    assert has_errors(findings)


def test_a_rejected_key_is_reported_immediately(server: Server) -> None:
    server.will(*[reply(401, body=b'{"error": "who are you?"}')] * 3)
    [finding] = send_test_event(client_for(signal_at(server)), 60)
    assert finding.message == "not delivered, the vendor rejects the key or the URL: who are you?"
    assert finding.hint == "check the key and the URL"


def test_an_unreachable_vendor_is_reported_after_the_timeout() -> None:
    client = client_for({"signal": {"api_key": "k", "endpoint": f"http://127.0.0.1:{free_port()}"}})
    [finding] = send_test_event(client, 1.0)
    assert (finding.level, finding.hint) == ("error", "check the network, or wait longer")
    assert finding.message.startswith("not delivered within 1 s: ConnectError")


def test_a_dropped_test_event_is_reported_with_the_reason(server: Server) -> None:
    client = client_for(signal_at(server), before_send=lambda record, destination: None)
    assert found(send_test_event(client, 10), "signal") == [("error", "not delivered: dropped, before_send")]


def goals_at(server: Server) -> dict[str, Any]:
    return {"sessionsight": {"secret_api_key": "key_1", "property_id": "p", "api_url": server.url}}


def test_no_goal_is_counted_by_default(server: Server) -> None:
    findings = send_test_event(client_for(goals_at(server)), 10)
    assert found(findings, "sessionsight") == [("warning", "not tested: it accepts goals, and none was named")]
    assert not has_errors(findings)
    assert not server.requests


def test_a_goal_is_counted_for_the_given_session(server: Server) -> None:
    findings = send_test_event(client_for(goals_at(server)), 10, goal="signups", session_id="6f1d2c3b")
    assert found(findings, "sessionsight") == [("ok", "delivered: goal 'signups'")]
    [request] = server.wait_for(1)
    assert b"6f1d2c3b" in request.body


def test_a_goal_without_a_session_is_dropped_with_a_hint(server: Server) -> None:
    [finding] = send_test_event(client_for(goals_at(server)), 10, goal="signups")
    assert finding.message == "not delivered: dropped, no_session"
    assert "ss_sid" in finding.hint
    with pytest.raises(InvalidGoalError):
        send_test_event(client_for(goals_at(server)), 10, goal=" ")


def test_a_test_event_bypasses_a_durable_spool(server: Server, tmp_path: Path) -> None:
    spool = f"sqlite:///{tmp_path / 'spool.db'}"
    with Server(answer=silence()) as hanging:
        other = client_for(signal_at(hanging), spool=spool)
        other.analytics.capture("stuck", user_id="user_1")
        hanging.wait_for(1)

        findings = send_test_event(client_for(signal_at(server), spool=spool), 10)

        assert found(findings, "signal") == [("ok", "delivered: event 'sessionsight_test'")]
        assert len(server.requests) == 1
        other.shutdown(0)


def test_each_destination_gets_its_own_test_event() -> None:
    box = Box()
    client = Client(
        Settings(destinations=(BoxDestination("a"), BoxDestination("b"))), make_transport=lambda destination: box
    )
    assert [finding.level for finding in send_test_event(client, 10)] == ["ok", "ok"]
    assert {name: len(entries) for name, entries in box.entries.items()} == {"a": 1, "b": 1}


@pytest.mark.parametrize("options", [{"destinations": {}}, {"destinations": SIGNAL, "disabled": True}])
def test_a_test_event_without_enabled_destinations_is_an_error(options: dict[str, Any]) -> None:
    assert has_errors(send_test_event(Client(Settings.from_mapping(options)), 1))


# --- text -----------------------------------------------------------------------------------------


def test_suppressed_delivery_is_reported_by_checks_and_test_events(server: Server) -> None:
    client = client_for(signal_at(server))
    message = "nothing is delivered: this process runs under a test"
    # This suite allows delivery, which takes precedence over suppression.
    with suppress_delivery(), patch.object(test_mode, "_allowances", 0):
        assert found(check(client), "testing") == [("warning", message)]
        assert found(send_test_event(client), "testing") == [("error", message)]
    assert not server.requests
    assert found(check(client), "testing") == []


def test_the_ledger_is_an_aligned_table() -> None:
    box = Box()
    client = Client(
        Settings(destinations=(BoxDestination("a"), BoxDestination("longer"))), make_transport=lambda destination: box
    )
    client.analytics.capture("seen", user_id="user_1")
    client.analytics.capture("", user_id="user_1")
    assert client.flush(10)
    assert stats_lines(client) == [
        "destination  captured  delivered  pending  dead  dropped  state   last error",
        "a                   1          1        0     0  0        closed  -",
        "longer              1          1        0     0  0        closed  -",
        "wrong calls, which captured nothing: 1",
    ]


def test_control_characters_in_findings_are_escaped() -> None:
    assert report_lines([Finding(level="error", subject="x", message="a\x1b[2Jb\nc")]) == ["error    x  a\\x1b[2Jb\\nc"]


def test_a_check_tells_that_a_relay_must_run(tmp_path: Path) -> None:
    client = client_for(SIGNAL, spool=f"sqlite:///{tmp_path}/spool.db", delivery="relay")
    message = "is relay: nothing is delivered unless `sessionsight relay` runs"
    assert found(check(client), "delivery") == [("ok", message)]
    assert found(check(client_for(SIGNAL)), "delivery") == []


def test_a_check_explains_the_memory_spool(tmp_path: Path) -> None:
    message = "is memory: a kill loses pending records, and key= deduplicates within one process only"

    assert found(check(client_for(SIGNAL)), "spool") == [("ok", message)]
    redis = "redis://:secret@cache/0?namespace=shop"
    assert found(check(client_for(SIGNAL, spool=redis)), "spool") == [("ok", "is redis://cache:6379/0?namespace=shop")]
    spool = tmp_path.resolve() / "spool.db"
    assert found(check(client_for(SIGNAL, spool=f"sqlite:///{spool}")), "spool") == [("ok", f"is the file {spool}")]


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("missing/spool.db", "missing does not exist, or is not writable by this user"),
        ("folder", "folder is not a file"),
    ],
)
def test_a_check_finds_an_invalid_spool_path(tmp_path: Path, place: str, problem: str) -> None:
    (tmp_path / "folder").mkdir()
    [(level, message)] = found(check(client_for(SIGNAL, spool=f"sqlite:///{tmp_path / place}")), "spool")
    assert level == "error"
    assert f"{problem}; records are kept in memory" in message


@pytest.mark.parametrize("refused", ["spool.db", "."])
def test_a_check_finds_a_spool_without_permissions(tmp_path: Path, refused: str) -> None:
    spool = tmp_path / "spool.db"
    spool.touch()
    wrong = (tmp_path / refused).resolve()
    with patch("os.access", lambda path, _: Path(path) != wrong):  # root may write anywhere
        [(level, message)] = found(check(client_for(SIGNAL, spool=f"sqlite:///{spool}")), "spool")
    assert (level, str(wrong) in message) == ("error", True)
