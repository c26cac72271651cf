"""A test that overrides the settings has a client of its own, and leaves none behind."""

from __future__ import annotations

import gc
import threading
import time
import unittest
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.adapters.django_site import ANALYTICS, browser, wsgi
from tests.conformance.receiver import Receiver

# isort: split
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import setting_changed
from django.http import HttpResponse
from django.test import SimpleTestCase, override_settings
from django.urls import path

from sessionsight import Client, ConfigurationError
from sessionsight.capture.current import default_client
from sessionsight_django import clients

ORDERED = datetime(2026, 7, 1, 12)


def order(request: Any) -> HttpResponse:
    request.analytics.capture("ordered", {"at": ORDERED, "by": [ORDERED]}, timestamp=ORDERED, user_id="user_1")
    return HttpResponse("ok")


def view(request: Any) -> HttpResponse:
    request.analytics.capture("seen", user_id="user_1")
    return HttpResponse("ok")


urlpatterns = [path("view/", view), path("order/", order)]


@pytest.fixture(autouse=True)
def _own_urls_and_clients() -> Iterator[None]:
    clients._clients.clear()
    clients._closing_clients.clear()
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[ANALYTICS]):
        yield
    clients._clients.clear()
    clients._closing_clients.clear()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def unawaited(*_: object) -> bool:
    return False


@pytest.mark.parametrize("name", ["CONSENT", "SHOULD_CAPTURE", "PAGEVIEWS", "USER", "BEFORE_SEND"])
def test_a_site_with_an_async_function_does_not_start(name: str) -> None:
    with (
        override_settings(SESSIONSIGHT={"DESTINATIONS": {}, name: unawaited}),
        pytest.raises(ConfigurationError, match=f"{name.lower()} must be a plain function"),
    ):
        WSGIHandler()


def test_each_value_of_the_settings_has_its_client_and_the_first_one_comes_back() -> None:
    before = clients.client()
    with override_settings(SESSIONSIGHT={"DISABLED": True}):
        first = clients.client()
        assert first is not before
        with override_settings(SESSIONSIGHT={"CONSENT": "gpc"}, DEBUG=True):
            second = clients.client()
            assert second.settings.consent == "gpc"
            assert second.settings.strict
        assert clients.client() is first
    assert clients.client() is before
    assert clients._clients == [before]


def test_settings_may_change_on_a_class_and_with_a_test_client() -> None:
    @override_settings(SESSIONSIGHT={"DISABLED": True})
    class Case(SimpleTestCase):
        def test(self) -> None:
            assert clients.client().settings.disabled
            assert self.client.get("/view/").content == b"ok"

    result = unittest.TestResult()
    unittest.TestSuite([Case("test")]).run(result)
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])
    assert not clients.client().settings.disabled


@pytest.mark.parametrize(
    ("options", "written", "instant"),
    [
        ({"USE_TZ": False, "TIME_ZONE": "Asia/Tokyo"}, "2026-07-01T12:00:00+09:00", "2026-07-01T03:00:00.000Z"),
        ({"USE_TZ": False, "TIME_ZONE": "Europe/Berlin"}, "2026-07-01T12:00:00+02:00", "2026-07-01T10:00:00.000Z"),
        ({"USE_TZ": True, "TIME_ZONE": "Asia/Tokyo"}, "2026-07-01T12:00:00", "2026-07-01T12:00:00.000Z"),
    ],
    ids=["tokyo", "summer in berlin", "aware"],
)
def test_without_time_zones_in_django_a_time_is_read_in_djangos(
    receiver: Receiver, options: dict[str, Any], written: str, instant: str
) -> None:
    with override_settings(SESSIONSIGHT={"DESTINATIONS": {"analyse": receiver.destinations()["analyse"]}}, **options):
        assert browser().get("/order/").content == b"ok"
        assert clients.client().flush(10)
    [call] = receiver.take()
    [event] = call.json()["events"]
    assert event["properties"] == {"at": written, "by": [written]}
    assert event["timestamp"] == instant


def test_a_time_zone_in_our_own_settings_takes_precedence_over_djangos() -> None:
    with override_settings(SESSIONSIGHT={"TIME_ZONE": "UTC"}, USE_TZ=False, TIME_ZONE="Asia/Tokyo"):
        assert clients.client().settings.zone == ZoneInfo("UTC")


def test_what_was_captured_under_settings_that_are_gone_is_delivered(receiver: Receiver) -> None:
    with override_settings(SESSIONSIGHT={"DESTINATIONS": receiver.destinations()}):
        assert browser().get("/view/").content == b"ok"
    wait_for(receiver.take)


def test_a_handler_from_such_settings_goes_on_serving(receiver: Receiver) -> None:
    with override_settings(SESSIONSIGHT={"DESTINATIONS": receiver.destinations()}):
        handler = WSGIHandler()
    assert wsgi(handler, "/view/")[2] == b"ok"
    wait_for(receiver.take)


def test_many_overrides_leave_neither_clients_nor_threads(receiver: Receiver) -> None:
    known: list[weakref.ref[Client]] = []
    threads = threading.active_count()
    for number in range(5):
        options = {"DESTINATIONS": {"analyse": receiver.destinations()["analyse"]}, "QUEUE_RECORDS": number + 1}
        with override_settings(SESSIONSIGHT=options):
            browser().get("/view/")
            known.append(weakref.ref(clients.client()))
    with override_settings(SESSIONSIGHT={}):
        pass

    def all_gone() -> bool:
        gc.collect()
        return not any(reference() for reference in known) and threading.active_count() <= threads

    wait_for(all_gone)
    assert default_client() is clients.client()


def test_a_setting_that_was_changed_before_the_app_was_ready_is_reset_without_harm() -> None:
    setting_changed.send(sender=None, setting="DEBUG", value=False, enter=False)
    assert clients._override_depths == []
