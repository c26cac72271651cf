"""Under Django's own test runner nothing is delivered, and the mixin gives each test a recorder."""

from __future__ import annotations

import json
import subprocess
import sys
import unittest
from pathlib import Path

import pytest

from tests.adapters.django_site import ANALYTICS, browser
from tests.conformance.receiver import Receiver

# isort: split
from django.http import HttpRequest, HttpResponse
from django.test import SimpleTestCase, override_settings
from django.urls import path

from sessionsight_django.testing import AnalyticsTestCase

pytestmark = pytest.mark.processes

SETTINGS = """
SECRET_KEY = "k"
ALLOWED_HOSTS = ["shop.example"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "sessionsight_django"]
MIDDLEWARE = ["sessionsight_django.AnalyticsMiddleware"]
ROOT_URLCONF = "urls"
SESSIONSIGHT = {{"LINGER": 0, "DESTINATIONS": {destinations!r}}}
"""
URLS = """
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse
from django.urls import path

def order(request, name):
    with transaction.atomic():
        user = User.objects.create_user(username=name)
        request.analytics.capture(name, {"order_id": user.pk}, user_id="user_1")
    return HttpResponse("ok")

urlpatterns = [path("orders/<str:name>/", order)]
"""
TESTS = """
import sessionsight
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings
from sessionsight.capture.current import default_client
from sessionsight.testing import allow_delivery
from sessionsight_django.testing import AnalyticsTestCase

def order(test, name):
    test.assertEqual(test.client.get(f"/orders/{name}/").content, b"ok")
    test.assertTrue(default_client().flush(10))

class Mixed:
    def setUp(self):
        order(self, "in_set_up")

    def test_one(self):
        order(self, "in_test")
        self.assertEqual([event.name for event in self.analytics.events], ["in_set_up", "in_test"])
        event = self.analytics.assert_captured("in_test")
        self.analytics.assert_captured("in_test", order_id=event.properties["order_id"])

    async def test_async(self):
        await self.async_client.get("/orders/in_async_test/")
        self.analytics.assert_captured("in_async_test")

    def test_a_job(self):
        self.analytics.clear()
        sessionsight.current().goals.increment("signups")
        self.analytics.assert_goal("signups")

class InTransactions(Mixed, AnalyticsTestCase, TestCase):
    pass

class WithTransactions(Mixed, AnalyticsTestCase, TransactionTestCase):
    pass

class WithoutMixin(TestCase):
    def test_held(self):
        before = default_client().stats()
        order(self, "held")
        self.assertEqual(default_client().stats(), before)

    @override_settings(ALLOWED_HOSTS=["*"], EMAIL_BACKEND="django.core.mail.backends.dummy.EmailBackend")
    def test_held_under_other_settings(self):
        order(self, "held_as_well")

    @allow_delivery()
    def test_delivered(self):
        order(self, "asked")

class WithoutDatabase(AnalyticsTestCase, SimpleTestCase):
    def test_nothing(self):
        self.analytics.assert_nothing_captured()
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""


@pytest.mark.measured_processes
def test_djangos_runner_delivers_only_what_a_test_asks_for(tmp_path: Path) -> None:
    with Receiver() as receiver:
        destinations = {"analyse": receiver.destinations()["analyse"]}
        (tmp_path / "settings.py").write_text(SETTINGS.format(destinations=destinations), "utf-8")
        for name, code in {"urls": URLS, "tests": TESTS, "manage": MANAGE}.items():
            (tmp_path / f"{name}.py").write_text(code, "utf-8")
        done = subprocess.run(
            [sys.executable, "manage.py", "test", "--shuffle"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Ran 10 tests" in done.stderr
        arrived = [event["event_name"] for call in receiver.take() for event in json.loads(call.body)["events"]]
    assert arrived == ["asked"]


# --- in this process -------------------------------------------------------------------------------------


def view(request: HttpRequest) -> HttpResponse:
    request.analytics.capture("seen", user_id="user_1")  # type: ignore[attr-defined]
    return HttpResponse("ok")


urlpatterns = [path("view/", view)]


@pytest.mark.parametrize(("event", "failures"), [("seen", 0), ("unseen", 1)])
def test_the_mixin_records_in_any_case(event: str, failures: int) -> None:
    @override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[ANALYTICS], SESSIONSIGHT={"DISABLED": True})
    class Case(AnalyticsTestCase, SimpleTestCase):
        def test(self) -> None:
            browser().get("/view/")
            self.analytics.assert_captured(event)

    result = unittest.TestResult()
    unittest.TestSuite([Case("test")]).run(result)
    assert (result.testsRun, len(result.failures), result.errors) == (1, failures, [])
    assert all("expected 'unseen', captured 'seen'" in text for _, text in result.failures)
