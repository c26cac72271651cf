"""A Django app's suite under pytest-django, as a user has it: in a process of its own, with the fixture `analytics`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.receiver import Receiver
from tests.support.suites import run_suite

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.processes

INI = """
[pytest]
DJANGO_SETTINGS_MODULE = shop.settings
addopts = --strict-markers
"""
SETTINGS = """
SECRET_KEY = "k"
ALLOWED_HOSTS = ["*"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}}}}
INSTALLED_APPS = ["sessionsight_django", "shop"]
MIDDLEWARE = ["sessionsight_django.AnalyticsMiddleware"]
ROOT_URLCONF = "shop.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SESSIONSIGHT = {{"DESTINATIONS": {destinations!r}, "LINGER": 0}}
"""
MODELS = """
from django.db import models

class Order(models.Model):
    pass
"""
URLS = """
from django.db import transaction
from django.http import HttpResponse
from django.urls import path
from shop.models import Order

def look(request):
    request.analytics.capture("shop_seen")
    return HttpResponse("Welcome")

@transaction.atomic
def order(request):
    Order.objects.create()
    request.analytics.capture("order_processed", {"order_id": "ord_1"})
    request.analytics.goals.increment("monthly-revenue", amount=49, session_id="session-1")
    transaction.on_commit(lambda: request.analytics.capture("receipt_sent"))
    return HttpResponse("Thank you")

def fail(request):
    request.analytics.capture("order_tried")
    try:
        with transaction.atomic():
            Order.objects.create()
            request.analytics.capture("order_processed", {"order_id": "ord_2"})
            transaction.on_commit(lambda: request.analytics.capture("receipt_sent"))
            raise RuntimeError
    except RuntimeError:
        return HttpResponse("Sorry")

urlpatterns = [path("", look), path("order", order), path("fail", fail)]
"""
SUITE = """
from urllib.request import urlopen

import pytest
import sessionsight
from django.db import transaction
from django.test import TestCase
from sessionsight_django.testing import AnalyticsTestCase
from shop.models import Order


def names(analytics):
    return [event.name for event in analytics.events]


# --- without a database

def test_a_view_without_a_database(client, analytics):
    client.get("/")
    assert names(analytics) == ["shop_seen"]

def test_nobody_was_here(analytics):
    analytics.assert_nothing_captured()

def test_the_database_stays_closed(client, analytics):
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        client.get("/order")
    analytics.assert_nothing_captured()


# --- in a transaction that is rolled back in the end

@pytest.mark.django_db
def test_an_order_counts_when_its_own_block_has_ended(client, analytics):
    client.get("/order")
    assert Order.objects.count() == 1
    analytics.assert_captured("order_processed", order_id="ord_1")
    analytics.assert_goal("monthly-revenue", amount=49, session_id="session-1")
    assert names(analytics) == ["order_processed"]  # Django calls nothing back here

@pytest.mark.django_db
def test_a_rollback_takes_its_records_along(client, analytics):
    client.get("/fail")
    assert Order.objects.count() == 0
    assert names(analytics) == ["order_tried"]
    assert [record.dropped for record in analytics.dropped] == ["rolled_back"]

@pytest.mark.django_db
def test_callbacks_run_when_a_test_says_so(client, analytics, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        client.get("/order")
    assert names(analytics) == ["order_processed", "receipt_sent"]
    assert len(analytics.goals) == 1
    assert len(callbacks) == 3  # one for each record that waited, and the app's own

@pytest.mark.django_db
def test_callbacks_of_what_failed_do_not_run(client, analytics, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        client.get("/fail")
    assert (names(analytics), callbacks) == (["order_tried"], [])

@pytest.mark.django_db
def test_a_setting_may_be_changed_for_a_test(settings, client, analytics):
    settings.SESSIONSIGHT = {**settings.SESSIONSIGHT, "EXCLUDE_PATHS": ["/order*"]}
    client.get("/order")
    client.get("/")
    assert names(analytics) == ["shop_seen"]

@pytest.mark.django_db
def test_a_job_may_be_looked_at_in_its_midst(analytics):
    with transaction.atomic():
        sessionsight.current().capture("report_exported", user_id="user_1")
        analytics.assert_nothing_captured()
    analytics.assert_captured("report_exported")

@pytest.fixture
def ordered(db, client):
    client.get("/order")

def test_a_fixture_may_order_before_the_test_records(ordered, analytics):
    assert Order.objects.count() == 1
    analytics.assert_nothing_captured()

def test_or_while_it_does(analytics, ordered):
    analytics.assert_captured("order_processed")

class TestOrders(AnalyticsTestCase, TestCase):
    def test_a_test_case_has_both(self):
        self.client.get("/order")
        self.analytics.assert_captured("order_processed", order_id="ord_1")

    @pytest.fixture(autouse=True)
    def _take(self, analytics):
        self.taken = analytics

    def test_a_test_case_may_take_the_fixture(self):
        self.client.get("/order")
        self.taken.assert_captured("order_processed", order_id="ord_1")


# --- in transactions that are committed

@pytest.mark.django_db(transaction=True)
def test_a_commit_sends_and_calls_back(client, analytics):
    client.get("/order")
    assert Order.objects.count() == 1
    assert names(analytics) == ["order_processed", "receipt_sent"]
    assert len(analytics.goals) == 1

@pytest.mark.django_db(transaction=True)
def test_a_rollback_is_one(client, analytics):
    client.get("/fail")
    assert names(analytics) == ["order_tried"]
    assert [record.dropped for record in analytics.dropped] == ["rolled_back"]

def test_a_live_server_is_seen_as_well(live_server, analytics):
    with urlopen(f"{live_server.url}/order", timeout=20) as reply:
        assert reply.read() == b"Thank you"
    assert names(analytics) == ["order_processed", "receipt_sent"]

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_an_async_client(async_client, analytics):
    await async_client.get("/order")
    assert names(analytics) == ["order_processed", "receipt_sent"]

"""
DELIVERY = """
import pytest
from sessionsight_django import clients

@pytest.mark.sessionsight_delivery
@pytest.mark.django_db(transaction={transaction})
def test_delivery(client):
    client.cookies["ss_vid"] = "visitor-1"
    client.get("/order")
    client.get("/fail")
    assert clients.client().flush(20)
"""
INSPECTOR = """
from urllib.request import Request, urlopen

def test_a_live_server(live_server, sessionsight_inspector):
    request = Request(f"{live_server.url}/order", headers={"Cookie": "ss_vid=visitor-1"})
    with urlopen(request, timeout=20) as reply:
        assert reply.read() == b"Thank you"
    names = [record.name for record in sessionsight_inspector.wait(2, vendor="analyse")]
    assert names == ["order_processed", "receipt_sent"]

def test_a_client(client, sessionsight_inspector):
    client.cookies["ss_vid"] = "visitor-1"
    client.get("/")
    sessionsight_inspector.wait(event="shop_seen")
"""


@pytest.fixture
def receiver(pytester: pytest.Pytester) -> Iterator[Receiver]:
    """A vendor, and a project whose app delivers to it."""
    with Receiver() as receiver:
        files = {
            "pytest.ini": INI,
            "shop/settings.py": SETTINGS.format(destinations={"analyse": receiver.destinations()["analyse"]}),
            "shop/models.py": MODELS,
            "shop/urls.py": URLS,
        }
        for name, text in files.items():
            file = Path(pytester.path, name)
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, "utf-8")
        yield receiver


def test_a_suite_sees_what_its_app_captures_and_nothing_leaves(pytester: pytest.Pytester, receiver: Receiver) -> None:
    pytester.makepyfile(test_orders=SUITE)

    run_suite(pytester, "-p", "anyio").assert_outcomes(passed=SUITE.count("def test_"))

    assert receiver.take() == []


def test_an_inspector_takes_what_a_live_server_delivers(pytester: pytest.Pytester, receiver: Receiver) -> None:
    pytester.makepyfile(test_inspector=INSPECTOR)

    run_suite(pytester).assert_outcomes(passed=2)

    assert receiver.take() == []


@pytest.mark.parametrize("transaction", [False, True], ids=["rolled back in the end", "committed"])
def test_a_test_may_deliver(transaction: bool, pytester: pytest.Pytester, receiver: Receiver) -> None:
    pytester.makepyfile(test_delivery=DELIVERY.format(transaction=transaction))

    run_suite(pytester).assert_outcomes(passed=1)

    names = [event["event_name"] for call in receiver.take() for event in call.json()["events"]]
    assert names == ["order_processed", *(["receipt_sent"] if transaction else []), "order_tried"]
