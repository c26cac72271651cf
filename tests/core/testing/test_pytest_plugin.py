"""The plugin in suites of users: each test runs a suite in a new process."""

from __future__ import annotations

import json

import pytest

import sessionsight_pytest
from sessionsight.test_mode import TESTING_VARIABLE
from tests.conformance.receiver import Receiver
from tests.support.suites import OPTIONS, run_suite

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.processes, pytest.mark.measured_processes]

SHOP = """
from sessionsight import Client, Settings

def make_client():
    return Client(Settings.from_mapping({{"linger": 0, "destinations": {destinations!r}}}))
"""
CAPTURE = """
from shop import make_client
client = make_client()
client.analytics.capture("%s", user_id="user_1")
assert client.flush(10)
client.shutdown()
"""


def capture(name: str) -> str:
    """Return code that captures an event and waits for its delivery."""
    return CAPTURE.strip().replace("\n", "\n    ") % name


def events(receiver: Receiver) -> set[str]:
    """Return the names of the delivered events."""
    return {event["event_name"] for call in receiver.take() for event in json.loads(call.body)["events"]}


@pytest.fixture
def receiver(pytester: pytest.Pytester) -> Receiver:
    """A vendor, and a module `shop` whose clients deliver to it."""
    receiver = Receiver()
    pytester.makepyfile(shop=SHOP.format(destinations={"analyse": receiver.destinations()["analyse"]}))
    return receiver


def passed(pytester: pytest.Pytester, number: int, *options: str) -> None:
    # Warnings are not counted, because an editable install has one.
    run_suite(pytester, *options).assert_outcomes(passed=number)


def test_a_suite_that_does_not_use_sessionsight_does_not_import_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_imported(request):
            assert request.config.pluginmanager.has_plugin("sessionsight")
            assert not [name for name in sys.modules if name.partition(".")[0] == "sessionsight"]
        """
    )
    passed(pytester, 1)


def test_nothing_is_delivered_unless_a_test_has_the_marker(pytester: pytest.Pytester, receiver: Receiver) -> None:
    pytester.makepyfile(
        f"""
import subprocess, sys
import pytest

CODE = {CAPTURE % "%s"!r}

def test_that_imports_sessionsight():
    {capture("held")}

def test_that_starts_a_process():
    subprocess.run([sys.executable, "-c", CODE % "held_process"], check=True, timeout=30)

@pytest.fixture
def asked():
    {capture("asked_fixture")}

@pytest.mark.sessionsight_delivery
def test_with_the_marker(asked):
    {capture("asked")}
    subprocess.run([sys.executable, "-c", CODE % "asked_process"], check=True, timeout=30)

def test_after_it():
    {capture("held_again")}
"""
    )
    with receiver:
        passed(pytester, 4, "--strict-markers")
        assert events(receiver) == {"asked", "asked_fixture", "asked_process"}


def test_a_process_that_continues_after_its_tests_delivers_again(
    pytester: pytest.Pytester, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TESTING_VARIABLE, raising=False)
    pytester.makepyfile(
        test_it=f"def test_it():\n    {capture('held')}",
        go_on=f"import pytest\nassert pytest.main({['-q', *OPTIONS, 'test_it.py']}) == 0\n{CAPTURE % 'after'}",
    )
    with receiver:
        run = pytester.runpython(pytester.path / "go_on.py")
        assert (run.ret, run.stderr.str()) == (0, "")
        assert events(receiver) == {"after"}


def test_workers_of_xdist_deliver_nothing(pytester: pytest.Pytester, receiver: Receiver) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(f"def test_one():\n    {capture('held')}\n\ndef test_two():\n    {capture('held_too')}")
    with receiver:
        passed(pytester, 2, "-n", "2")
        assert events(receiver) == set()


def test_delivery_of_a_client_from_before_pytest_is_suppressed(pytester: pytest.Pytester, receiver: Receiver) -> None:
    pytester.makeconftest("from shop import make_client\nclient = make_client()")
    pytester.makepyfile(
        """
        from conftest import client

        def test_it():
            client.analytics.capture("held", user_id="user_1")
            assert client.flush(10)
            assert client.stats().lanes["analyse"].captured == 0
        """
    )
    with receiver:
        passed(pytester, 1)
        assert events(receiver) == set()


def test_the_ini_option_enables_delivery_for_a_suite(pytester: pytest.Pytester, receiver: Receiver) -> None:
    pytester.makeini("[pytest]\nsessionsight_delivery = true")
    pytester.makepyfile(f"def test_it():\n    {capture('asked')}")
    with receiver:
        passed(pytester, 1)
        assert events(receiver) == {"asked"}


APPS = """
import fastapi
import flask
import sessionsight_asgi
import sessionsight_flask
from sessionsight import Settings, configure

SETTINGS = Settings.from_mapping({{"linger": 0, "destinations": {destinations!r}}})
client = configure(SETTINGS)

api = fastapi.FastAPI()
api.add_middleware(sessionsight_asgi.AnalyticsMiddleware, settings=SETTINGS)

@api.get("/")
def fastapi_view(request: fastapi.Request):
    request.analytics.capture("fastapi", user_id="user_1")

app = flask.Flask("shop")
app.config.update(SESSIONSIGHT_DESTINATIONS={destinations!r}, SESSIONSIGHT_LINGER=0)
sessionsight_flask.SessionSight(app)

@app.get("/")
def flask_view():
    flask.request.analytics.capture("flask", user_id="user_1")
    return "ok"
"""


def test_apps_created_at_import_deliver_to_the_inspector_only(pytester: pytest.Pytester, receiver: Receiver) -> None:
    pytester.makepyfile(apps=APPS.format(destinations={"analyse": receiver.destinations()["analyse"]}))
    pytester.makepyfile(
        """
        import pytest
        from apps import api, app, client
        from starlette.testclient import TestClient

        def visit():
            assert TestClient(api).get("/").status_code == 200
            assert app.test_client().get("/").status_code == 200
            client.analytics.capture("job", user_id="user_1")

        def test_before():
            visit()

        @pytest.mark.parametrize("marked", [0, pytest.param(1, marks=pytest.mark.sessionsight_delivery)])
        def test_with_an_inspector(sessionsight_inspector, analytics, marked):
            visit()
            found = sessionsight_inspector.wait(3)
            assert {record.name for record in found} == {"fastapi", "flask", "job"}
            assert [event.name for event in analytics.events] == ["fastapi", "flask", "job"]

        def test_after_it():
            visit()
            assert client.flush(10)
        """
    )
    with receiver:
        passed(pytester, 4)
        assert events(receiver) == set()


def test_the_fixture_records_each_test_separately_with_readable_failures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import unittest
        from sessionsight import configure
        from sessionsight.testing import record

        client = configure(disabled=True)

        def test_one(analytics):
            client.analytics.capture("order_processed", {"order_id": "ord_1"})
            analytics.assert_captured("order_processed", order_id="ord_1")
            assert len(analytics.events) == 1

        def test_another(analytics):
            analytics.assert_nothing_captured()

        def test_that_fails(analytics):
            client.analytics.capture("order_processed", {"order_id": "ord_1"})
            analytics.assert_captured("order_processed", order_id="ord_2")

        class OrderTest(unittest.TestCase):
            def setUp(self):
                self.analytics = self.enterContext(record())

            def test_unittest(self):
                client.analytics.goals.increment("signups")
                self.analytics.assert_goal("signups")
        """
    )
    run = run_suite(pytester)
    run.assert_outcomes(passed=3, failed=1)
    run.stdout.fnmatch_lines(
        [
            '>       analytics.assert_captured("order_processed", order_id="ord_2")',
            "E       AssertionError: no matching event was captured",
            "E       closest:",
            "E           event 'order_processed'  {order_id='ord_1'}",
            "E               order_id: expected 'ord_2', captured 'ord_1'",
        ],
        consecutive=False,
    )
    run.stdout.no_fnmatch_line("*recorder.py*")


def test_the_plugin_and_the_library_use_the_same_variable() -> None:
    assert sessionsight_pytest._VARIABLE == TESTING_VARIABLE
