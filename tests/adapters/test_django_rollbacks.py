"""The ways in which a transaction ends, and what then becomes of its records."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from tests.adapters.django_site import browser, site

# isort: split
from django.db import IntegrityError, connection, transaction

from sessionsight.capture.records import DropReason
from sessionsight.destinations import Analyse, SessionSight, Signal
from tests.adapters.django_order_fixtures import orders_in_files, recorder_that_holds  # noqa: F401  # fixtures
from tests.adapters.django_orders import Refund, recording, refunded, rolled_back, view_of
from tests.adapters.recording import Recorder


def test_a_commit_that_fails_is_a_rollback(recorder: Recorder) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():  # noqa: PT012  # the transaction's end raises
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO lines VALUES (999)")
        recorder.client.bind(user_id="user_1").capture("inside")
    assert (recorder.names(), rolled_back(recorder)) == ([], 1)


def test_a_rollback_that_was_asked_for_is_one(recorder: Recorder) -> None:
    with transaction.atomic():
        recorder.client.bind(user_id="user_1").capture("inside")
        transaction.set_rollback(True)
    assert (recorder.names(), rolled_back(recorder)) == ([], 1)


def test_a_connection_that_is_closed_has_rolled_back(recorder: Recorder) -> None:
    with transaction.atomic():
        recorder.client.bind(user_id="user_1").capture("inside")
        connection.close()
    assert (recorder.names(), rolled_back(recorder)) == ([], 1)


def test_another_callback_that_fails_after_the_commit_takes_nothing_along(recorder: Recorder) -> None:
    analytics = recorder.client.bind(user_id="user_1")

    def fail() -> None:
        raise Refund

    with pytest.raises(Refund), transaction.atomic():  # noqa: PT012  # the transaction's end raises
        transaction.on_commit(fail)
        analytics.capture("inside")
    gc.collect()  # the traceback holds what Django has forgotten
    with refunded():
        analytics.capture("rolled_back")
    assert (recorder.names(), rolled_back(recorder)) == (["inside"], 1)


def test_what_is_discarded_is_not_sent_by_the_commit(recorder: Recorder) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    with transaction.atomic():
        analytics.capture("first")
        analytics.capture("second")
        analytics.discard()
        analytics.capture("third")
    assert recorder.names() == ["third"]
    assert recorder.client.stats().lanes["analyse"].dropped == {DropReason.DISCARDED: 2}


def test_a_key_is_claimed_by_the_commit(recorder: Recorder) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    with refunded():
        analytics.capture("paid", key="order:1")
    for _ in range(2):
        with transaction.atomic():
            analytics.capture("paid", key="order:1")
    assert recorder.names() == ["paid"]
    assert recorder.client.stats().lanes["analyse"].dropped == {DropReason.ROLLED_BACK: 1, DropReason.DUPLICATE: 1}


def test_a_rollback_shows_in_the_lanes_that_would_have_taken_the_record() -> None:
    recorder = recording(
        destinations=(
            Analyse(public_key="pk_live_1"),
            Signal(api_key="key", project_id="project"),
            SessionSight(secret_api_key="key", property_id="property"),
        ),
        choose_destinations=lambda request: ["signal", "sessionsight"],
    )

    @view_of
    def view(analytics: Any) -> None:
        with refunded():
            analytics.capture("inside")

    with site(recorder, view):
        browser().get("/view/")
    assert {lane: rolled_back(recorder, lane) for lane in recorder.client.stats().lanes} == {
        "analyse": 0,
        "signal": 1,
        "sessionsight": 0,
    }
    recorder.client.shutdown()


def test_nothing_keeps_a_request_alive_that_was_rolled_back(recorder: Recorder) -> None:
    alive: list[Any] = []

    @view_of
    def view(analytics: Any) -> None:
        alive.append(weakref.ref(analytics))
        with refunded():
            analytics.capture("inside")

    with site(recorder, view):
        browser().get("/view/")
    gc.collect()
    assert alive[0]() is None
