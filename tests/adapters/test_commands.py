"""`flask sessionsight ...` and `manage.py sessionsight ...` print the same, and end with the same exit codes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.core.management import CommandError, call_command
from django.test import override_settings

from sessionsight_django import clients
from sessionsight_flask import SessionSight
from tests.support.server import Server, reply

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
    with override_settings(SESSIONSIGHT=options):
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


def test_check_prints_what_it_finds(run: Run) -> None:
    assert run({"destinations": {"saytics": {"secret_key": "key_1"}}}, "check") == (
        0,
        (
            "ok       saytics  configured by the settings\n"
            "ok       spool    is memory: a kill loses what waits, and key= counts within one process only\n"
            "ok       strict   is off: a wrong call is logged and counted\n"
        ),
    )


def test_check_ends_with_1_when_there_is_an_error(run: Run) -> None:
    code, output = run({"destinations": {"saytics": {"secret_key": "..."}}}, "check")
    assert code == 1
    assert output.startswith("error    saytics  secret_key is no key")


def test_a_test_event_is_delivered(run: Run, server: Server) -> None:
    code, output = run(to(server), "test-event", "--timeout", "10")
    assert (code, output) == (0, "ok       signal  delivered: event 'sessionsight_test'\n")
    assert len(server.wait_for(1)) == 1


def test_a_test_event_that_is_refused_ends_with_1(run: Run, server: Server) -> None:
    server.will(reply(422, body=b'{"error": "no such project"}'))
    code, output = run(to(server), "test-event")
    assert (code, output) == (1, "error    signal  not delivered: refused, HTTP 422, no such project\n")


def test_a_goal_that_is_none_is_a_wrong_argument(run: Run) -> None:
    options = {"destinations": {"sessionsight": {"secret_api_key": "key_1", "property_id": "p"}}}
    code, output = run(options, "test-event", "--goal", " ")
    assert (code > 0, output) == (True, "")


def test_stats_prints_the_ledger(run: Run) -> None:
    code, output = run({"destinations": {"saytics": {"secret_key": "key_1"}}}, "stats")
    assert code == 0
    assert output.splitlines()[1].split() == ["saytics", "0", "0", "0", "0", "0", "closed", "-"]
