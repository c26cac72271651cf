"""The middleware: attaches analytics to each request, and ends them with the final response."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.apps import apps
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from msgspec import Struct

from sessionsight import Analytics
from sessionsight.capture.current import enter, leave, within
from sessionsight.content_length import ContentLengthTracker
from sessionsight.event_loop import run_in_worker
from sessionsight.log import logger
from sessionsight.test_mode import test_mode
from sessionsight_django.browser import PRIVATE, keep_private
from sessionsight_django.clients import client, set_test_mode
from sessionsight_django.reader import DjangoReader
from sessionsight_django.transactions import sync_test_transactions
from sessionsight_django.user import keep_as_is

__all__ = ["AnalyticsMiddleware"]


class AnalyticsMiddleware:
    """Gives each request `request.analytics`. Sync and async, under WSGI and ASGI.

    Configured by the `SESSIONSIGHT` dict in settings. What a request captured is handed over when Django
    closes its final response; later captures at once. `strict` follows `DEBUG` unless it is set.

    Its place in `MIDDLEWARE` is free: the higher, the more of the other middlewares can capture.

    Example:
        >>> MIDDLEWARE = ["sessionsight_django.AnalyticsMiddleware"]
        >>> SESSIONSIGHT = {"DESTINATIONS": {"analyse": {"public_key": "pk_live_1"}}}
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        self.client = client()
        set_test_mode()
        _tell_without_app()
        self._reader = DjangoReader(load=self.client.settings.user == "always")
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve one request."""
        if "analytics" in request.__dict__:  # this middleware stands twice in the list
            return self.get_response(request)
        if self._async:
            return self._serve(request)
        analytics = self._open(request)
        try:
            token = enter(analytics)
            try:
                response: HttpResponseBase = self.get_response(request)  # type: ignore[assignment]
            finally:
                leave(token)
            if self.client.pageviews:
                _announce(request, response, analytics)
            if self._reader.load:
                self._settle(request, analytics)
            if PRIVATE in request.__dict__:
                keep_private(response)
            if self._is_complete(request, response, analytics):
                analytics.finish()
            elif self._hands_over_early(analytics):
                analytics.hand_over()
        except BaseException as error:
            if isinstance(error, Exception) and self.client.submit_before_last_byte:
                analytics.finish()
            _release(request, analytics)
            raise
        return response

    async def _serve(self, request: HttpRequest) -> HttpResponseBase:
        analytics = self._open(request)
        try:
            token = enter(analytics)
            try:
                response = await cast("Awaitable[HttpResponseBase]", self.get_response(request))
            finally:
                leave(token)
            if self.client.pageviews:
                _announce(request, response, analytics)
            if self._reader.load:
                await sync_to_async(self._settle)(request, analytics)
            if PRIVATE in request.__dict__:
                keep_private(response)
            if self._is_complete(request, response, analytics):
                await analytics.afinish()
            elif self._hands_over_early(analytics):
                await run_in_worker(analytics.hand_over)
        except BaseException as error:  # a cancellation too: the client has gone, and nothing will be closed
            if isinstance(error, Exception) and self.client.submit_before_last_byte:
                await analytics.afinish()
            _release(request, analytics)
            raise
        return response

    def _open(self, request: HttpRequest) -> Analytics:
        analytics = Analytics(self.client, self._reader, request)
        # Django calls it for whatever response is the final one, where a response's own closers are
        # lost when another middleware puts a 304 in its place.
        request.close = _Close(request, analytics, request.__dict__.get("close"))  # type: ignore[method-assign]
        request.analytics = analytics  # type: ignore[attr-defined]
        return analytics

    def _settle(self, request: HttpRequest, analytics: Analytics) -> None:
        """With `user="always"`: look the user up now if a record needs it, and never later on."""
        if analytics.pending:
            self.client.policy.user_id(self._reader, request)
        keep_as_is(request)

    def _is_complete(self, request: HttpRequest, response: HttpResponseBase, analytics: Analytics) -> bool:
        """Return whether the analytics must be finished now; a stream ends them at its own end."""
        early = self.client.submit_before_last_byte or test_mode.recording
        if not response.streaming:
            return early
        # A file captures nothing, and WSGI servers send it by sendfile as long as nobody wraps it.
        is_file = getattr(response, "file_to_stream", None) is not None
        if not is_file or hasattr(request, "scope"):
            stream = cast("StreamingHttpResponse", response)
            wrapped = _Stream(request, stream, analytics, early=early)
            content: Any = stream.streaming_content
            stream.streaming_content = wrapped.async_chunks(content) if stream.is_async else wrapped.chunks(content)
        return early and (is_file or _length_of(request, response.status_code, response.headers).is_complete)

    def _hands_over_early(self, analytics: Analytics) -> bool:
        """Return whether to submit what a view captured before its stream begins.

        Another middleware may answer with something else in its place, such as a 304, and then nobody reads the
        stream.
        """
        return self.client.submit_before_last_byte and not self.client.inline and analytics.pending


def _announce(request: HttpRequest, response: HttpResponseBase, analytics: Analytics) -> None:
    """Tell the analytics how the response begins."""
    analytics.responds(request.method or "", response.status_code, response.headers.get("Content-Type"))


@cache
def _tell_without_app() -> None:
    """A warning, once a process: Django asks no system check of an app that is not installed."""
    if apps.apps_ready and not apps.is_installed("sessionsight_django"):
        logger.warning(
            "sessionsight_django is not in INSTALLED_APPS: requests are served as they should be, but there are no "
            "system checks, and sessionsight.current() finds no client in commands and jobs"
        )


class _Close(Struct, frozen=True):
    """Stands in for a request's `close`: does what that does, and ends the analytics."""

    request: HttpRequest
    analytics: Analytics
    replaced: Callable[[], None] | None
    """What stood in its place for this request alone."""

    def __call__(self) -> None:
        try:
            if self.replaced is None:
                type(self.request).close(self.request)
            else:
                self.replaced()
        finally:
            _release(self.request, self.analytics)

    def __reduce__(self) -> tuple[Any, ...]:
        # A deep copy or a pickle of the request is closed as if we were not there; its analytics are others' to end.
        return _close_of, (self.request, self.replaced)


def _close_of(request: HttpRequest, replaced: Callable[[], None] | None) -> Callable[[], None]:
    return request.close if replaced is None else replaced


def _release(request: HttpRequest, analytics: Analytics) -> None:
    """End the analytics. The hook comes off again: it and the request would keep each other alive."""
    sync_test_transactions()
    analytics.release()
    own = request.__dict__
    if isinstance(hook := own.get("close"), _Close):
        del own["close"]
        if hook.replaced is not None:
            own["close"] = hook.replaced


class _Stream:
    """Makes the chunks of a stream under the request's analytics, and ends them when it is over.

    Also where it fails: under ASGI, Django closes a response only when it could be sent.
    """

    __slots__ = ("_analytics", "_early", "_headers", "_request", "_status")

    def __init__(self, request: HttpRequest, response: HttpResponseBase, analytics: Analytics, *, early: bool) -> None:
        self._request = request
        self._analytics = analytics
        self._early = early
        analytics.stays_open()
        # Not the response, which holds the chunks. The headers are read when the first chunk is asked for: other
        # middlewares may change them until then.
        self._headers = response.headers
        self._status = response.status_code

    def chunks(self, content: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks of a plain iterator."""
        analytics = self._analytics
        length = self._length()
        end = object()
        try:
            while (chunk := within(analytics, next, content, end)) is not end:
                if length is not None and length.about_to_write(len(chunk)):
                    analytics.finish()
                yield chunk
        except BaseException as error:
            if self._early and isinstance(error, Exception):
                analytics.finish()
            _release(self._request, analytics)
            raise
        if self._early:
            analytics.finish()

    async def async_chunks(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks of an async iterator."""
        analytics = self._analytics
        length = self._length()
        try:
            while (chunk := await self._next(content)) is not None:
                if length is not None and length.about_to_write(len(chunk)):
                    await analytics.afinish()
                yield chunk
        except BaseException as error:
            if self._early and isinstance(error, Exception):
                await analytics.afinish()
            _release(self._request, analytics)
            raise
        if self._early:
            await analytics.afinish()

    async def _next(self, content: AsyncIterator[bytes]) -> bytes | None:
        token = enter(self._analytics)
        try:
            return await anext(content)
        except StopAsyncIteration:
            return None
        finally:
            leave(token)

    def _length(self) -> ContentLengthTracker | None:
        return _length_of(self._request, self._status, self._headers) if self._early else None


def _length_of(request: HttpRequest, status: int, headers: Any) -> ContentLengthTracker:
    tracker = ContentLengthTracker(request.method or "")
    tracker.response_started(status, headers.items())
    return tracker
