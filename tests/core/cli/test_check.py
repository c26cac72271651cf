from __future__ import annotations

import json

import pytest

from tests.core.cli.commands import run
from tests.support.ports import free_port
from tests.support.server import Server, reply

KEY = "key_that_must_not_be_shown"


def configure(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SIGNAL_API_KEY", KEY)
    monkeypatch.setenv("SIGNAL_PROJECT_ID", "shop")
    monkeypatch.setenv("SIGNAL_ENDPOINT", url)


def test_check_reports_configuration_sources_and_reachability(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, server.url)
    result = run("check")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "ok       settings  taken from the environment",
        "ok       signal    configured by the environment (SIGNAL_API_KEY, SIGNAL_PROJECT_ID, SIGNAL_ENDPOINT)",
        f"warning  signal    endpoint: {server.url} is this machine, not the vendor",
        "                   fine for tests, wrong in production",
        "ok       spool     is memory: a kill loses pending records, and key= deduplicates within one process only",
        "ok       strict    is off: a wrong call is logged and counted",
        f"ok       signal    {server.url} answers",
    ]
    [request] = server.requests
    assert (request.method, request.body) == ("GET", b"")
    assert KEY not in str(request)


def test_an_unreachable_vendor_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, f"http://127.0.0.1:{free_port()}")
    result = run("check")
    assert result.exit_code == 1
    assert "does not answer: ConnectError" in result.output


def test_offline_sends_no_request(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, server.url)
    result = run("check", "--offline")
    assert (result.exit_code, server.requests) == (0, [])


def test_json_output(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, server.url)
    server.will(reply(503))
    result = run("check", "--json")
    output = json.loads(result.stdout)
    assert (result.exit_code, output["ok"]) == (0, True)
    assert output["findings"][-1] == {
        "level": "warning",
        "subject": "signal",
        "message": f"{server.url} answers, but with HTTP 503",
        "hint": "check the vendor's status",
    }


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_invalid_configuration_is_a_finding(options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "not an address")
    result = run("check", *options)
    assert result.exit_code == 1
    if options:
        output = json.loads(result.stdout)
        assert (output["ok"], [finding["subject"] for finding in output["findings"]]) == (False, ["settings"])
    else:
        assert result.output.startswith("error    settings  destination 'signal': endpoint")


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in run("check", "--offline").output
    coloured = run("check", "--offline", color=True).output
    assert coloured.startswith("\x1b[32m\x1b[1mok\x1b[0m       settings")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("check", "--offline", color=True).output
