"""Middleware for Django: adds analytics to each request, and ends them with the final response."""

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
from sessionsight.adapters import (
    ContentLengthTracker,
    RequestScope,
    logger,
    reset_current,
    run_in_worker,
    run_with,
    scope_of,
    set_current,
    suspended,
)
from sessionsight_django.browser import PRIVATE, keep_private
from sessionsight_django.clients import client, set_test_mode
from sessionsight_django.request import DjangoRequest, is_behind_proxy
from sessionsight_django.transactions import sync_test_transactions
from sessionsight_django.user import freeze_user

__all__ = ["AnalyticsMiddleware"]


class AnalyticsMiddleware:
    """Adds `request.analytics` to each request. Sync and async, under WSGI and ASGI.

    Configured by the dict `SESSIONSIGHT` in the settings. The records of a request are submitted when Django closes its
    final response; later ones at once. `strict` follows `DEBUG` unless it is set.

    It may be anywhere in `MIDDLEWARE`; only middlewares below it can capture.

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
        _warn_if_not_installed()
        self._loads_user = self.client.settings.user == "always"
        self._behind_proxy = is_behind_proxy()
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve one request."""
        if "analytics" in request.__dict__:  # this middleware is in the list twice
            return self.get_response(request)
        if self._async:
            return self._serve(request)
        analytics, scope = self._begin(request)
        try:
            token = set_current(analytics)
            try:
                response: HttpResponseBase = self.get_response(request)  # type: ignore[assignment]
            finally:
                reset_current(token)
            if self.client.pageviews:
                _response_started(scope, request, response)
            if self._loads_user:
                self._load_user_before_end(request, scope)
            if PRIVATE in request.__dict__:
                keep_private(response)
            ends_early = self.client.must_submit_early()
            ends_now = self._wrap_stream(request, response, analytics, ends_early) if response.streaming else ends_early
            if ends_now:
                scope.end_before_last_byte()
            elif ends_early and self._must_submit_now(scope):
                scope.submit_now()
        except BaseException:
            _close(request, scope)
            raise
        return response

    async def _serve(self, request: HttpRequest) -> HttpResponseBase:
        analytics, scope = self._begin(request)
        try:
            token = set_current(analytics)
            try:
                response = await cast("Awaitable[HttpResponseBase]", self.get_response(request))
            finally:
                reset_current(token)
            if self.client.pageviews:
                _response_started(scope, request, response)
            if self._loads_user:
                await sync_to_async(self._load_user_before_end)(request, scope)
            if PRIVATE in request.__dict__:
                keep_private(response)
            ends_early = self.client.must_submit_early()
            ends_now = self._wrap_stream(request, response, analytics, ends_early) if response.streaming else ends_early
            if ends_now:
                await scope.aend_before_last_byte()
            elif ends_early and self._must_submit_now(scope):
                await run_in_worker(scope.submit_now)
        except BaseException as error:  # also a cancellation: the connection is lost, and nothing will be closed
            if isinstance(error, Exception) and self.client.must_submit_early():
                await scope.aend_before_last_byte()
            _close(request, scope)
            raise
        return response

    def _begin(self, request: HttpRequest) -> tuple[Analytics, RequestScope]:
        scope = RequestScope(self.client, DjangoRequest(request, self._loads_user, self._behind_proxy))
        # Django calls it for whichever response is the final one; a response's own closers are
        # lost when another middleware replaces it by a 304.
        request.close = _CloseHook(request, scope, request.__dict__.get("close"))  # type: ignore[method-assign]
        analytics = request.analytics = Analytics(scope)  # type: ignore[attr-defined]
        return analytics, scope

    def _load_user_before_end(self, request: HttpRequest, scope: RequestScope) -> None:
        """With `user="always"`, look up the user now if a record needs it, and never later."""
        if scope.has_pending:
            self.client.policy.user_id(DjangoRequest(request, self._loads_user, self._behind_proxy))
        freeze_user(request)

    def _wrap_stream(
        self,
        request: HttpRequest,
        response: HttpResponseBase,
        analytics: Analytics,
        ends_early: bool,  # noqa: FBT001  # a keyword would make two calls too long for their line
    ) -> bool:
        """Wrap a stream, which ends the scope at its own end. Return whether the scope must end now."""
        # A file captures nothing, and WSGI servers send it by sendfile as long as it is not wrapped.
        is_file = getattr(response, "file_to_stream", None) is not None
        if not is_file or hasattr(request, "scope"):
            stream = cast("StreamingHttpResponse", response)
            wrapped = _Stream(request, stream, analytics, ends_early=ends_early)
            content: Any = stream.streaming_content
            stream.streaming_content = wrapped.async_chunks(content) if stream.is_async else wrapped.chunks(content)
        return ends_early and (is_file or _length_of(request, response.status_code, response.headers).is_complete)

    def _must_submit_now(self, scope: RequestScope) -> bool:
        """Return whether to submit what a view captured before its stream begins.

        Another middleware may replace the response, for instance by a 304, and then the stream is never read.
        """
        return not self.client.inline and scope.has_pending


def _response_started(scope: RequestScope, request: HttpRequest, response: HttpResponseBase) -> None:
    scope.response_started(request.method or "", response.status_code, response.headers.get("Content-Type"))


@cache
def _warn_if_not_installed() -> None:
    """Log a warning, once a process: Django runs no system checks of an app that is not installed."""
    if apps.apps_ready and not apps.is_installed("sessionsight_django"):
        logger.warning(
            "sessionsight_django is not in INSTALLED_APPS: requests are served as usual, but there are no "
            "system checks, and sessionsight.current() finds no client in commands and jobs"
        )


class _CloseHook(Struct, frozen=True):
    """Replaces a request's `close`: calls the original method, then closes the scope."""

    request: HttpRequest
    scope: RequestScope
    replaced: Callable[[], None] | None
    """The `close` that this request alone had, if any."""

    def __call__(self) -> None:
        try:
            if self.replaced is None:
                type(self.request).close(self.request)
            else:
                self.replaced()
        finally:
            _close(self.request, self.scope)

    def __reduce__(self) -> tuple[Any, ...]:
        # A deep copy or a pickle of the request is closed without this hook; its scope is the original's.
        return _close_of, (self.request, self.replaced)


def _close_of(request: HttpRequest, replaced: Callable[[], None] | None) -> Callable[[], None]:
    return request.close if replaced is None else replaced


def _close(request: HttpRequest, scope: RequestScope) -> None:
    """Close the scope, and remove the hook, because it and the request would keep each other alive."""
    sync_test_transactions()
    scope.close()
    own = request.__dict__
    if isinstance(hook := own.get("close"), _CloseHook):
        del own["close"]
        if hook.replaced is not None:
            own["close"] = hook.replaced


class _Stream:
    """Makes the chunks of a stream with its request's analytics as the current ones, and ends their scope afterwards.

    A stream that fails closes the scope: under ASGI, Django closes a response only if it was sent.
    """

    __slots__ = ("_analytics", "_current", "_ends_early", "_headers", "_request", "_scope", "_status")

    def __init__(
        self, request: HttpRequest, response: HttpResponseBase, analytics: Analytics, *, ends_early: bool
    ) -> None:
        self._request = request
        self._analytics = self._current = analytics
        self._scope = scope_of(analytics)
        self._ends_early = ends_early
        self._scope.stays_open()
        # Not the response, which refers to the chunks. The headers are read at the first chunk, because other
        # middlewares may change them until then.
        self._headers = response.headers
        self._status = response.status_code

    def chunks(self, content: Iterator[bytes]) -> Iterator[bytes]:
        """Iterate over the chunks of a plain iterator."""
        scope = self._scope
        length = self._length()
        end = object()
        try:
            while (chunk := run_with(self._current, self._make, content, end)) is not end:
                if length is not None and length.about_to_write(len(chunk)):
                    scope.end_before_last_byte()
                yield chunk
        except BaseException:
            _close(self._request, scope)
            raise
        if self._ends_early:
            scope.end_before_last_byte()

    async def async_chunks(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Iterate over the chunks of an async iterator."""
        scope = self._scope
        length = self._length()
        try:
            while (chunk := await self._next(content)) is not None:
                if length is not None and length.about_to_write(len(chunk)):
                    await scope.aend_before_last_byte()
                yield chunk
        except BaseException as error:
            if self._ends_early and isinstance(error, Exception):
                await scope.aend_before_last_byte()
            _close(self._request, scope)
            raise
        if self._ends_early:
            await scope.aend_before_last_byte()

    async def _next(self, content: AsyncIterator[bytes]) -> bytes | None:
        token = set_current(self._current)
        try:
            return await anext(content)
        except StopAsyncIteration:
            return None
        finally:
            self._current = suspended(self._analytics)
            reset_current(token)

    def _make(self, content: Iterator[bytes], end: object) -> Any:
        chunk = next(content, end)
        self._current = suspended(self._analytics)
        return chunk

    def _length(self) -> ContentLengthTracker | None:
        return _length_of(self._request, self._status, self._headers) if self._ends_early else None


def _length_of(request: HttpRequest, status: int, headers: Any) -> ContentLengthTracker:
    tracker = ContentLengthTracker(request.method or "")
    tracker.response_started(status, headers.items())
    return tracker
