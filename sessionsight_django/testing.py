"""For the tests of Django apps: a recorder in each test."""

from __future__ import annotations

import unittest

from sessionsight.testing import Recorder, record

__all__ = ["AnalyticsTestCase"]


class AnalyticsTestCase(unittest.TestCase):
    """Gives each test `self.analytics`, a `sessionsight.testing.Recorder`. Stands before Django's own class.

    Works with all of Django's test cases, and inside the transactions of its `TestCase`. The recorder is there
    before `setUp`.

    Example:
        >>> from django.test import TestCase
        >>> class OrderTest(AnalyticsTestCase, TestCase):
        ...     def test_an_order_is_captured(self):
        ...         self.client.post("/orders")
        ...         self.analytics.assert_captured("order_processed", order_id="ord_1")
    """

    analytics: Recorder
    """What was captured since the test began."""

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test, recording."""
        with record() as self.analytics:
            return super().run(result)
