"""The edges of a request's scope: after its end, between threads, and with clients and requests that fail."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest

from sessionsight import Analytics, Client, Settings
from sessionsight.capture.records import Alias, EventRecord
from sessionsight.capture.scope import RequestScope
from sessionsight.delivery.transport import TimeLimits
from sessionsight.delivery.waiters import DeliveryWaiter, WaiterTracker
from sessionsight.destinations.base import VendorRequest, VendorResponse
from tests.core.box import Box, BoxDestination, Recorder, Visit
from tests.core.conftest import MakeRecorder

BROWSER = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "User-Agent": "Mozilla/5.0 Chrome/140.0"}


def test_a_closed_scope_takes_no_other_request(recorder: Recorder) -> None:
    scope = RequestScope(recorder.client, Visit(user="user_1"))
    scope.close()
    scope.bind_request(Visit(user="user_2"))
    Analytics(scope).capture("later")
    assert recorder.users() == ["user_1"]


def test_a_record_of_a_thread_that_has_not_seen_the_end_is_submitted_by_the_open_response(recorder: Recorder) -> None:
    scope = RequestScope(recorder.client, Visit(user="user_1"))
    scope.stays_open()
    Analytics(scope).capture("before")
    scope.close()
    # A thread appends its record before it looks whether the scope has ended.
    scope._records.append(Alias(alias="visitor-1", random=bytes(10), time=0.0))
    scope.submit_pending()
    assert recorder.users() == ["user_1", "user_1"]


def test_an_empty_id_of_a_call_leaves_the_request_its_own(recorder: Recorder) -> None:
    analytics = Analytics(RequestScope(recorder.client, Visit(user="user_1")))
    analytics.capture("seen", user_id="", distinct_id=float("nan"))
    analytics._scope.close()
    assert recorder.users() == ["user_1"]


def test_a_page_view_that_cannot_be_captured_is_logged(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make_recorder(pageviews=True, max_property_bytes=100)
    visit = Visit({"method": "GET", "path": "/", "headers": BROWSER})
    analytics = Analytics(RequestScope(recorder.client, visit))
    analytics.tag(campaign="x" * 100)
    analytics._scope.response_started("GET", 200, "text/html")
    analytics._scope.end()
    analytics._scope.close()
    assert recorder.records() == []
    assert "the properties take" in caplog.text


def test_a_wait_for_delivery_that_fails_does_not_reach_the_view(caplog: pytest.LogCaptureFixture) -> None:
    class FailingWaits(Client):
        def new_waiter(self) -> DeliveryWaiter:
            def fail(_: Any) -> None:
                raise OSError("no thread can be started")

            return DeliveryWaiter(WaiterTracker(), 1.0, fail)

    class SlowBox(Box):
        def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
            assert waited.wait(10)  # otherwise there may be nothing left to wait for
            return super().send(call, limits)

    waited = Event()
    settings = Settings(destinations=(BoxDestination(),), flush="inline", linger=0)
    client = FailingWaits(settings, make_transport=lambda _: SlowBox())
    analytics = Analytics(RequestScope(client, Visit(user="user_1")))
    analytics.capture("seen")
    analytics._scope.end_before_last_byte()
    analytics._scope.close()
    waited.set()
    assert "no thread can be started" in caplog.text


def test_a_record_that_a_parent_process_has_deferred_may_be_written_by_its_child(make_recorder: MakeRecorder) -> None:
    scope = RequestScope(make_recorder().client)
    scope.transaction_wrote(EventRecord(name="seen", properties=b"{}", random=b"", time=0.0))
    assert not scope.has_pending
