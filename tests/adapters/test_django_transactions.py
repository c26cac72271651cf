"""Records captured inside a transaction wait for its commit, and are discarded with a rollback."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest

from tests.adapters.django_site import ANALYTICS, asgi, browser, site

# isort: split
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import sessionsight
from sessionsight import InvalidEventError, TrackingContext
from sessionsight.capture.current import set_default_client
from sessionsight.capture.records import DropReason
from sessionsight.testing import record
from sessionsight_django import clients
from tests.adapters.django_order_fixtures import orders_in_files, recorder_that_holds  # noqa: F401  # fixtures
from tests.adapters.django_orders import (
    Refund,
    buy,
    change_line,
    fail_in_the_end,
    give_back,
    order,
    orders,
    recording,
    refunded,
    rolled_back,
    view_of,
)
from tests.adapters.recording import Recorder
from tests.support.server import until

# --- in a request ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "names", "lost"),
    [
        (buy, ["before", "inside", "after"], 0),
        (give_back, ["before", "after"], 1),
        (change_line, ["outer", "kept", "instead"], 2),
        (fail_in_the_end, [], 1),
    ],
)
def test_records_share_the_fate_of_their_transaction(
    recorder: Recorder, view: Any, names: list[str], lost: int
) -> None:
    with site(recorder, view):
        browser().get(f"/{view.__name__}/")
        assert recorder.names() == names
        assert rolled_back(recorder) == lost


@pytest.mark.parametrize(("view", "kept"), [(buy, 1), (give_back, 0)])
def test_rows_and_records_are_there_together(recorder: Recorder, view: Any, kept: int) -> None:
    with site(recorder, view):
        browser().get(f"/{view.__name__}/")
        assert orders() == recorder.names().count("inside") == kept


def test_what_waits_is_sent_with_the_rest_of_its_request(recorder: Recorder) -> None:
    captured = []

    @view_of
    def view(analytics: Any) -> None:
        with transaction.atomic():
            analytics.capture("inside")
            captured.append(analytics._scope.has_pending)
        captured.append(analytics._scope.has_pending)
        captured.append(recorder.handed_over)

    with site(recorder, view):
        browser().get("/view/")
        assert captured == [False, True, 0]
        [event] = recorder.events()
    assert event["anonymous_id"] == "visitor-1"


def test_a_view_that_fails_under_atomic_requests_loses_only_what_was_captured_in_it(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)

    def around(get_response: Any) -> Any:
        def middleware(request: Any) -> Any:
            request.analytics.capture("before")
            response = get_response(request)
            request.analytics.capture("after")
            return response

        return middleware

    @view_of
    def well(analytics: Any) -> None:
        analytics.capture("inside")

    @view_of
    def ill(analytics: Any) -> None:
        order()
        analytics.capture("inside")
        raise Refund

    monkeypatch.setattr(f"{__name__}.around", around, raising=False)
    with site(recorder, well, ill, middleware=[ANALYTICS, f"{__name__}.around"]):
        assert browser().get("/ill/").status_code == 500
        assert (recorder.names(), rolled_back(recorder), orders()) == (["before", "after"], 1, 0)
        assert browser().get("/well/").status_code == 200
        assert recorder.names()[2:] == ["before", "inside", "after"]


@pytest.mark.parametrize("fails", [False, True])
async def test_async_views_reach_transactions_through_threads(recorder: Recorder, fails: bool) -> None:
    def buy() -> None:
        with transaction.atomic():
            sessionsight.current().capture("inside")
            if fails:
                raise Refund

    async def view(request: Any) -> HttpResponse:
        request.analytics.capture("before")
        try:
            await sync_to_async(buy)()
        except Refund:
            request.analytics.capture("refunded")
        finally:
            await sync_to_async(connections.close_all)()
        return HttpResponse("ok")

    with site(recorder, view):
        await asgi(ASGIHandler(), "/view/")
        names = await sync_to_async(recorder.names)()
    assert names == (["before", "refunded"] if fails else ["before", "inside"])
    assert rolled_back(recorder) == fails


def test_a_page_that_was_served_was_served(recorder: Recorder) -> None:
    recorder = recording(pageviews=True)
    with site(recorder, buy), refunded():
        browser().get("/buy/")
    assert recorder.names() == ["$pageview"]
    assert rolled_back(recorder) == 3
    recorder.client.shutdown()


def test_a_commit_after_the_response_hands_over_at_once_under_the_request(recorder: Recorder) -> None:
    kept: list[Any] = []

    @view_of
    def keep(analytics: Any) -> None:
        kept.append(analytics)

    with site(recorder, keep), record() as seen:
        browser().get("/keep/")
        with transaction.atomic():
            kept[0].capture("late")
            seen.assert_nothing_captured()
        page = seen.assert_captured("late").context.page
    assert (page.path, page.route) == ("/keep/", "keep/")


# --- what is decided at the call -------------------------------------------------------------------------


def test_a_record_is_made_at_the_call(recorder: Recorder) -> None:
    properties = {"status": "new"}
    analytics = recorder.client.bind(user_id="user_1")
    with record() as seen, transaction.atomic():
        analytics.capture("first", properties)
        properties["status"] = "paid"
        before = seen.captured
        recorder.client.bind(user_id="user_2").capture("second", on_commit=False)
    first = seen.assert_captured("first", status="new")
    assert before == []
    assert first.user_id == "user_1"
    assert first.record.time <= seen.assert_captured("second").record.time


def test_identify_completes_what_waits(recorder: Recorder) -> None:
    @view_of
    def sign_up(analytics: Any) -> None:
        with transaction.atomic():
            analytics.capture("signed_up")
        analytics.identify("user_9")

    with site(recorder, sign_up):
        browser().get("/sign_up/")
        assert recorder.users()[0] == "user_9"


CALLS: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "capture": lambda analytics, options: analytics.capture("seen", user_id="user_1", **options),
    "identify": lambda analytics, options: analytics.identify("user_1", **options),
    "alias": lambda analytics, options: analytics.alias("anonymous-7", user_id="user_1", **options),
    "group": lambda analytics, options: analytics.group("company", "acme-1", user_id="user_1", **options),
    "set_person_properties": lambda analytics, options: analytics.set_person_properties(
        {"plan": "pro"}, user_id="user_1", **options
    ),
    "set_person_properties_once": lambda analytics, options: analytics.set_person_properties_once(
        {"plan": "pro"}, user_id="user_1", **options
    ),
    "increment": lambda analytics, options: analytics.goals.increment("signups", **options),
    "decrement": lambda analytics, options: analytics.goals.decrement("signups", **options),
}


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize(
    ("options", "captured"),
    [({}, 0), ({"on_commit": True}, 0), ({"on_commit": None}, 0), ({"on_commit": False}, 1), ({"using": "other"}, 1)],
)
def test_every_call_can_be_told_not_to_wait(
    recorder: Recorder, call: str, options: dict[str, Any], captured: int
) -> None:
    with record() as seen:
        with refunded():
            CALLS[call](recorder.client.analytics, options)
        assert len(seen.captured) == captured
        assert [one.dropped for one in seen.dropped] == [DropReason.ROLLED_BACK] * (1 - captured)


@pytest.mark.parametrize("call", ["capture", "increment"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_commit": "no"}, "on_commit must be True or False, not 'no'"),
        ({"using": 1}, "using must be the alias of a database or a session of SQLAlchemy, not 1"),
        ({"using": "othr"}, "DATABASES does not contain 'othr'; did you mean 'other'"),
    ],
)
def test_a_wrong_option_is_a_wrong_call(recorder: Recorder, call: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEventError, match=message):
        CALLS[call](recorder.client.analytics, options)
    assert recorder.handed_over == 0


@pytest.mark.parametrize(("outer", "inner", "kept"), [("default", "other", "default"), ("other", "default", "other")])
def test_a_record_waits_for_the_database_that_is_named(recorder: Recorder, outer: str, inner: str, kept: str) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    with transaction.atomic(using=outer), suppress(Refund), transaction.atomic(using=inner):
        analytics.capture("default")
        analytics.capture("other", using="other")
        raise Refund
    assert (recorder.names(), rolled_back(recorder)) == ([kept], 1)


# --- outside requests ------------------------------------------------------------------------------------


def test_code_outside_requests_waits_as_well(recorder: Recorder) -> None:
    set_default_client(recorder.client)
    context = TrackingContext(user_id="user_1")
    with transaction.atomic(durable=True):
        recorder.client.bind(context).capture("in_a_job")
        sessionsight.current().capture("in_a_command", user_id="user_1")
        assert recorder.handed_over == 0
    assert recorder.names() == ["in_a_job", "in_a_command"]
    assert recorder.users() == ["user_1", "user_1"]


def test_without_a_transaction_nothing_waits(recorder: Recorder) -> None:
    order()
    recorder.client.bind(user_id="user_1").capture("at_once")
    assert recorder.handed_over == 1


def test_the_client_that_the_adapter_makes_holds_records() -> None:
    with override_settings(SESSIONSIGHT={"DISABLED": True}):
        client = clients.client()
    with record() as seen:
        with transaction.atomic():
            client.analytics.capture("inside")
            seen.assert_nothing_captured()
        seen.assert_captured("inside")


def test_looking_costs_no_query_and_opens_nothing(recorder: Recorder) -> None:
    made: list[bool] = []

    def elsewhere() -> None:
        recorder.client.bind(user_id="user_1").capture("seen")
        recorder.client.bind(user_id="user_1").capture("seen", using="other")
        made.extend(hasattr(connections._connections, alias) for alias in ("default", "other"))  # type: ignore[attr-defined]

    thread = Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert made == [False, False]
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        recorder.client.bind(user_id="user_1").capture("seen")
    assert len(queries) == 0
    connection.close()
    recorder.client.bind(user_id="user_1").capture("seen")
    assert connection.connection is None
    assert recorder.names() == ["seen"] * 4


def test_what_waits_for_its_transaction_stays_although_its_request_takes_long(recorder: Recorder) -> None:
    @view_of
    def long(analytics: Any) -> None:
        analytics._scope.stays_open()
        with transaction.atomic():
            analytics.capture("inside")
            analytics.capture("outside", on_commit=False)
            until(lambda: recorder.arrived == ["outside"], "it has left, and the request goes on")
            for _ in range(150):
                analytics.capture("inside")
            assert recorder.arrived == ["outside"]
            transaction.set_rollback(True)

    with site(recorder, long):
        browser().get("/long/")
    assert recorder.names() == ["outside"]
    assert rolled_back(recorder) == 151
