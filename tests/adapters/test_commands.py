"""`flask sessionsight ...` and `manage.py sessionsight ...` have the same output and the same exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.core.management import CommandError, call_command
from django.test import override_settings

from sessionsight import Client, Settings
from sessionsight_django import clients
from sessionsight_flask import SessionSight
from tests.support.ports import free_port
from tests.support.server import PATIENCE, Server, reply

ANALYTICS = "sessionsight_django.AnalyticsMiddleware"

Run = Callable[..., tuple[int, str]]


def run_flask(options: dict[str, Any], *arguments: str) -> tuple[int, str]:
    app = Flask("shop")
    app.config.update({f"SESSIONSIGHT_{name.upper()}": value for name, value in options.items()})
    SessionSight(app)
    result = app.test_cli_runner().invoke(args=["sessionsight", *arguments])
    return result.exit_code, result.stdout


def run_django(options: dict[str, Any], *arguments: str) -> tuple[int, str]:
    clients._clients.clear()
    output = io.StringIO()
    with override_settings(SESSIONSIGHT=options, MIDDLEWARE=[ANALYTICS]):
        try:
            call_command("sessionsight", *arguments, stdout=output)
        except CommandError as error:
            return error.returncode, output.getvalue()
    return 0, output.getvalue()


@pytest.fixture(params=[run_flask, run_django])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    yield request.param
    clients._clients.clear()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def to(server: Server, key: str = "key_1") -> dict[str, Any]:
    return {"destinations": {"signal": {"api_key": key, "endpoint": server.url}}}


def test_check_prints_its_findings(run: Run) -> None:
    assert run({"destinations": {"saytics": {"secret_key": "key_1"}}}, "check") == (
        0,
        (
            "ok       saytics  configured by the settings\n"
            "ok       spool    is memory: a kill loses pending records, and key= deduplicates within one process only\n"
            "ok       strict   is off: a wrong call is logged and counted\n"
        ),
    )


def test_check_exits_with_1_for_an_error(run: Run) -> None:
    code, output = run({"destinations": {"saytics": {"secret_key": "..."}}}, "check")
    assert code == 1
    assert output.startswith("error    saytics  secret_key is not a key")


def test_a_test_event_is_delivered(run: Run, server: Server) -> None:
    code, output = run(to(server), "test-event", "--timeout", "10")
    assert (code, output) == (0, "ok       signal  delivered: event 'sessionsight_test'\n")
    assert len(server.wait_for(1)) == 1


def test_a_rejected_test_event_exits_with_1(run: Run, server: Server) -> None:
    server.will(reply(422, body=b'{"error": "no such project"}'))
    code, output = run(to(server), "test-event")
    assert (code, output) == (1, "error    signal  not delivered: refused, HTTP 422, no such project\n")


def test_an_invalid_goal_is_a_wrong_argument(run: Run) -> None:
    options = {"destinations": {"sessionsight": {"secret_api_key": "key_1", "property_id": "p"}}}
    code, output = run(options, "test-event", "--goal", " ")
    assert (code > 0, output) == (True, "")


def test_stats_prints_the_ledger(run: Run) -> None:
    code, output = run({"destinations": {"saytics": {"secret_key": "key_1"}}}, "stats")
    assert code == 0
    assert output.splitlines()[1].split() == ["saytics", "0", "0", "0", "0", "0", "closed", "-"]


def test_check_sends_requests_with_online_only(run: Run, server: Server) -> None:
    assert run(to(server), "check")[0] == 0
    assert not server.requests
    code, output = run(to(server), "check", "--online")
    assert (code, output.splitlines()[-1]) == (0, f"ok       signal  {server.url} answers")
    assert [request.method for request in server.requests] == ["GET"]


def test_an_adapter_uses_its_own_app(run: Run) -> None:
    code, output = run({"disabled": True}, "check", "--help")
    assert (code, "--offline" in output, "--app" in output) == (0, True, False)
    assert run({"disabled": True}, "test-event", "--app", "shop.web:app") == (2, "")


def test_a_user_is_erased(run: Run, server: Server) -> None:
    options = {"destinations": {"saytics": {"secret_key": "key_1", "api_url": server.url}}}
    assert run(options, "erase", "user_1") == (0, "ok       saytics  the user is deleted\n")
    assert [(request.method, request.target) for request in server.requests] == [("DELETE", "/v1/users/user_1")]


def test_the_spool_is_that_of_the_app(run: Run, tmp_path: Path) -> None:
    destinations = {"saytics": {"secret_key": "key_1", "api_url": f"http://127.0.0.1:{free_port()}"}}
    options = {"destinations": destinations, "spool": f"sqlite:///{tmp_path / 'spool.db'}"}
    assert run(options, "spool", "stats") == (2, "")  # the file is made for the first record
    client = Client(Settings.from_mapping(options))
    client.analytics.capture("seen", user_id="user_1")
    client.shutdown(0)
    code, output = run(options, "spool", "stats")
    assert (code, output.splitlines()[1].split()[:2]) == (0, ["saytics", "1"])
    assert run(options, "dead-letters", "list") == (0, "")


def test_djangos_own_settings_are_checked_as_well() -> None:
    output = io.StringIO()
    with override_settings(SESSIONSIGHT={"DISABLED": True}, MIDDLEWARE=[]):
        call_command("sessionsight", "check", "--json", stdout=output)
    clients._clients.clear()
    [finding] = [one for one in json.loads(output.getvalue())["findings"] if one["subject"] == "MIDDLEWARE"]
    assert finding["message"] == "lacks sessionsight_django.AnalyticsMiddleware: requests have no analytics"


def test_a_relay_delivers_what_the_app_has_written(run: Run, server: Server, tmp_path: Path) -> None:
    options = {**to(server), "delivery": "relay", "spool": f"sqlite:///{tmp_path}/spool.db"}
    client = Client(Settings.from_mapping(options, environ={}))
    client.analytics.capture("seen", user_id="user_1")
    assert (client.shutdown(), server.requests) == (True, [])

    code, output = run(options, "relay", "--once")

    assert (code, output.splitlines()[-1].split(" (")[0]) == (0, "signal: 0 ready, 0 in flight, 1 delivered")
    assert len(server.requests) == 1


def test_manage_py_prints_as_it_goes(server: Server, tmp_path: Path) -> None:
    options = {**to(server), "delivery": "relay", "spool": f"sqlite:///{tmp_path}/spool.db"}
    (tmp_path / "relay_settings.py").write_text(
        f"INSTALLED_APPS = ['sessionsight_django']\nSECRET_KEY = 'x'\nSESSIONSIGHT = {options!r}\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "django", "sessionsight", "relay"],
        cwd=tmp_path,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "relay_settings"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"delivering signal from sqlite:///{tmp_path}/spool.db\n"
        process.terminate()
        assert process.stdout.read().startswith("stopping")
        assert process.wait(PATIENCE) == 0
