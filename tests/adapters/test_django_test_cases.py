"""In the transactions of Django's own test cases recorders see what production would send."""

from __future__ import annotations

import unittest
from typing import Any, ClassVar

import pytest

from tests.adapters.django_site import browser, site

# isort: split
from asgiref.sync import sync_to_async
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from sessionsight.testing import record
from sessionsight_django.testing import AnalyticsTestCase
from tests.adapters.django_order_fixtures import orders_in_files, recorder_that_holds  # noqa: F401  # fixtures
from tests.adapters.django_orders import buy, change_line, give_back, refunded, view_of
from tests.adapters.recording import Recorder


def run(case: type[unittest.TestCase], recorder: Recorder, *views: Any) -> None:
    """Run the tests of a class on a site, and show what failed."""
    result = unittest.TestResult()
    with site(recorder, *views):
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun > 0
    assert not [*result.failures, *result.errors], "\n".join(text for _, text in result.failures + result.errors)


@pytest.mark.parametrize("kind", [TestCase, TransactionTestCase])
def test_recorders_see_what_would_be_committed(recorder: Recorder, kind: Any) -> None:
    analytics = recorder.client.analytics

    def give_back_in_a_job() -> None:
        with transaction.atomic():
            analytics.capture("in_a_job")
            with refunded():
                analytics.capture("in_vain")

    class Tests(AnalyticsTestCase, kind):  # type: ignore[misc]
        available_apps: ClassVar[list[str]] = []  # nothing to flush

        def setUp(self) -> None:
            self.browser = browser()

        def names(self) -> list[str | None]:
            return [event.name for event in self.analytics.events]

        def test_what_the_test_captures_is_there_at_once(self) -> None:
            analytics.capture("direct")
            assert self.names() == ["direct"]

        def test_requests(self) -> None:
            self.browser.get("/buy/")
            assert self.names() == ["before", "inside", "after"]
            self.browser.get("/give_back/")
            assert self.names() == ["before", "inside", "after", "before", "after"]
            self.browser.get("/change_line/")
            assert self.names()[5:] == ["outer", "kept", "instead"]
            assert {one.name for one in self.analytics.dropped} == {"inside", "line", "line_of_line"}

        def test_blocks_of_the_test(self) -> None:
            with transaction.atomic():
                with transaction.atomic(durable=False):
                    analytics.capture("inside")
                self.analytics.assert_nothing_captured()
            assert self.names() == ["inside"]

        def test_a_block_that_is_rolled_back(self) -> None:
            with refunded():
                analytics.capture("inside")
            self.analytics.assert_nothing_captured()

        async def test_async(self) -> None:
            await self.async_client.get("/buy/")
            assert self.names() == ["before", "inside", "after"]
            await sync_to_async(give_back_in_a_job)()
            assert self.names() == ["before", "inside", "after", "in_a_job"]

        def test_what_is_forgotten_stays_so(self) -> None:
            with transaction.atomic():
                analytics.capture("inside")
            self.analytics.clear()
            self.analytics.assert_nothing_captured()

    run(Tests, recorder, buy, give_back, change_line)


def test_in_a_test_case_callbacks_may_be_run_too(recorder: Recorder) -> None:
    analytics = recorder.client.analytics

    class Tests(AnalyticsTestCase, TestCase):
        @classmethod
        def setUpTestData(cls) -> None:
            with transaction.atomic():
                analytics.capture("before_the_test")

        def test_executed_callbacks_count_once(self) -> None:
            with self.captureOnCommitCallbacks(execute=True):
                with transaction.atomic():
                    analytics.capture("inside")
                self.analytics.assert_captured("inside")
            assert len(self.analytics.events) == 1

        def test_a_block_without_savepoint_that_fails(self) -> None:
            with refunded(savepoint=False):
                analytics.capture("inside")
            assert [one.name for one in self.analytics.dropped] == ["inside"]
            self.analytics.assert_nothing_captured()

        def test_a_recorder_of_its_own_has_what_happened_meanwhile(self) -> None:
            with transaction.atomic():
                analytics.capture("earlier")
            with record() as own, transaction.atomic():
                analytics.capture("meanwhile")
            with transaction.atomic():
                analytics.capture("later")
            assert [event.name for event in own.events] == ["meanwhile"]

    run(Tests, recorder)


def test_in_a_test_case_a_response_ends_with_what_was_committed(recorder: Recorder) -> None:
    @view_of
    def only_buy(analytics: Any) -> None:
        with transaction.atomic():
            analytics.capture("inside")

    class Tests(TestCase):
        def test_request(self) -> None:
            browser().get("/only_buy/")

    run(Tests, recorder, only_buy)
    assert recorder.names() == ["inside"]
