"""A recorder in each test of a Django app, and analytics for requests that a test has made."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING, Any, cast

from django.http import HttpRequest
from django.test import AsyncRequestFactory, RequestFactory

from sessionsight import Analytics
from sessionsight.adapters import RequestScope
from sessionsight.testing import Recorder, record
from sessionsight_django.clients import client
from sessionsight_django.request import DjangoRequest, is_behind_proxy
from sessionsight_django.typed import AnalyticsRequest

if TYPE_CHECKING:  # django-stubs' generic bases, so that get(), post() and so on return an AnalyticsRequest
    from django.test.client import _AsyncRequestFactory, _RequestFactory

    _Factory = _RequestFactory[AnalyticsRequest]
    _AsyncFactory = _AsyncRequestFactory[AnalyticsRequest]
else:
    _Factory = RequestFactory
    _AsyncFactory = AsyncRequestFactory

__all__ = ["AnalyticsRequestFactory", "AnalyticsTestCase", "AsyncAnalyticsRequestFactory", "with_analytics"]


class AnalyticsTestCase(unittest.TestCase):
    """Gives each test `self.analytics`, a `sessionsight.testing.Recorder`. List it before Django's own class.

    Works with all of Django's test cases, and inside the transactions of its `TestCase`. The recorder exists before
    `setUp` runs. Wrong calls raise meanwhile; `sessionsight.testing.lenient` prevents that.

    Example:
        >>> from django.test import TestCase
        >>> class OrderTest(AnalyticsTestCase, TestCase):
        ...     def test_an_order_is_captured(self):
        ...         self.client.post("/orders")
        ...         self.analytics.assert_captured("order_processed", order_id="ord_1")
    """

    analytics: Recorder
    """The records that were captured since the test began."""

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test, recording."""
        with record() as self.analytics:
            return super().run(result)


def with_analytics(request: HttpRequest) -> AnalyticsRequest:
    """Set `request.analytics` on a request that a test has made, as the middleware does on those of a server.

    The analytics belong to the client of the settings, and read cookies, headers and `request.user` from the request.
    Each record is submitted at once, or when its transaction has ended, because there is no response to wait for.

    Args:
        request: A request of `RequestFactory`, `AsyncRequestFactory` or a factory based on them, such as that of
            Django REST framework.

    Returns:
        The same request, typed for views that are annotated with `AnalyticsRequest`.

    Raises:
        ConfigurationError: `settings.SESSIONSIGHT` has an unknown or wrong setting.

    Example:
        >>> from django.test import RequestFactory
        >>> request = with_analytics(RequestFactory().get("/orders"))  # doctest: +SKIP
        >>> response = create_order(request)  # doctest: +SKIP
    """
    settings_client = client()
    loads_user = settings_client.settings.user == "always"
    scope = RequestScope(settings_client, DjangoRequest(request, loads_user, is_behind_proxy()))
    scope.end()
    typed = cast("AnalyticsRequest", request)
    typed.analytics = Analytics(scope)
    return typed


class AnalyticsRequestFactory(_Factory):
    """Django's `RequestFactory`, whose requests have analytics; see `with_analytics`.

    Example:
        >>> response = create_order(AnalyticsRequestFactory().post("/orders"))  # doctest: +SKIP
    """

    def request(self, **request: Any) -> AnalyticsRequest:
        """Make a request; the methods for the HTTP methods call this."""
        return with_analytics(super().request(**request))


class AsyncAnalyticsRequestFactory(_AsyncFactory):
    """Django's `AsyncRequestFactory`, whose requests have analytics; see `with_analytics`."""

    def request(self, **request: Any) -> AnalyticsRequest:
        """Make a request; the methods for the HTTP methods call this."""
        return with_analytics(super().request(**request))
