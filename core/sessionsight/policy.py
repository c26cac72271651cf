"""Applies a client's settings to a request: consent, exclusions, user, context, destinations and page views.

Exceptions of a user's functions are logged and never propagate. If `consent` fails, nothing is sent; if another
function fails, records are sent. An awaitable returned in place of an answer counts as no.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

from msgspec import Struct

from sessionsight.callbacks import UnawaitedResult, decide, run
from sessionsight.capture.interfaces import ContextFactory, RequestReader
from sessionsight.capture.records import DropReason
from sessionsight.capture.validation import validate_destinations, validate_id
from sessionsight.request.consent import consents
from sessionsight.request.context import OPTED_OUT, TrackingContext
from sessionsight.request.pageviews import HEADERS as PAGE_HEADERS
from sessionsight.request.pageviews import is_bot, is_page_visit
from sessionsight.request.raw import HeaderNames, RequestData, from_any
from sessionsight.request.resolve import resolve
from sessionsight.settings import Settings

__all__ = ["LogFunction", "RequestPolicy"]


class LogFunction(Protocol):
    """Logs messages at a limited rate, as `sessionsight.log.ThrottledLogger.log` does."""

    def __call__(self, level: int, message: str, *, key: str | None = None) -> None:
        """Log a message once a minute for each key, which is the message by default."""


class RequestPolicy:
    """Evaluates the settings of one client for its requests.

    Args:
        settings: The client's settings.
        names: The destinations that `choose_destinations` may name.
        log: Logs failures of the settings' functions.
        count: Increments the counter of this name.
    """

    def __init__(
        self, settings: Settings, names: frozenset[str], *, log: LogFunction, count: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self.selects_destinations = settings.choose_destinations is not None
        """True when `select_destinations` has to be called."""
        # These functions may read anything of the request, so they are called while it is being served.
        self._eager = settings.should_capture is not None or callable(settings.consent)
        self._names = names
        self._log = log
        self._count = count
        self._user_callback = settings.user if callable(settings.user) else None
        self._has_callbacks = self._eager or self._user_callback is not None
        self._header_names = HeaderNames(settings.anonymous_id_header, cookie=settings.anonymous_id_cookie)
        self._page_names = HeaderNames(*PAGE_HEADERS)
        self._is_bot = settings.is_bot or is_bot
        self._excluded = re.compile("|".join(map(fnmatch.translate, settings.exclude_paths)))

    def inspect(self, request: RequestReader) -> tuple[ContextFactory, str | None, str | None]:
        """Return the results of `context_factory`, `user_id` and `route`, reading the request once."""
        if self._has_callbacks:
            return self._inspect_stepwise(request)
        try:
            snapshot, user_id = request.snapshot(self._header_names), request.user_id()
            if user_id is not None:
                user_id = validate_id(user_id, "user")
            return LazyContext(self._evaluate, snapshot), user_id, request.route()
        except Exception:
            return self._inspect_stepwise(request)

    def context_factory(self, request: RequestReader) -> ContextFactory:
        """Return a function that returns the request's context, and why its records are dropped, if they are."""
        try:
            snapshot = request.snapshot(self._header_names)
        except Exception as error:
            self._log_callback_error("the request could not be read", error)
            snapshot = RequestData
        if self._eager:
            evaluated = self._evaluate(snapshot, request.framework_request)
            return lambda: evaluated
        return LazyContext(self._evaluate, snapshot)

    def should_capture_pageview(self, request: RequestReader) -> bool:
        """Return whether the page is captured: a person has opened it, and the `pageviews` setting allows it."""
        pageviews = self.settings.pageviews
        if pageviews is False or not self._is_visited(request):
            return False
        if pageviews is True:
            return True
        try:
            return decide(pageviews, request.framework_request())
        except Exception as error:
            self._log_callback_error("pageviews failed, which counts as no", error)
            return False

    def _is_visited(self, request: RequestReader) -> bool:
        """Return whether a person has opened the page, by the request's headers."""
        try:
            headers = request.snapshot(self._page_names)().headers
            return is_page_visit(headers) and not decide(self._is_bot, headers.get("user-agent", ""))
        except Exception as error:
            self._log_callback_error("is_bot failed, which counts as yes", error)
            return False

    def select_destinations(self, request: RequestReader) -> frozenset[str] | DropReason | None:
        """Return the destinations of the request's records, by the `choose_destinations` setting; None means all."""
        return self._select_destinations(request.framework_request)

    def user_id(self, request: RequestReader) -> str | None:
        """Return the signed-in user's id, by the `user` setting."""
        try:
            callback = self._user_callback
            found = request.user_id() if callback is None else run(callback, request.framework_request())
            return None if found is None else validate_id(found, "user")
        except Exception as error:
            self._log_callback_error("the user could not be read", error)
            return None

    def route(self, request: RequestReader) -> str | None:
        """Return the template of the matched route, if there is one."""
        try:
            return request.route()
        except Exception as error:
            self._log_callback_error("the route could not be read", error)
            return None

    def _inspect_stepwise(self, request: RequestReader) -> tuple[ContextFactory, str | None, str | None]:
        """Do as `inspect`, step by step, so that each failure is logged as its own."""
        return self.context_factory(request), self.user_id(request), self.route(request)

    def evaluate(
        self, request: object
    ) -> tuple[TrackingContext, DropReason | None, frozenset[str] | DropReason | None]:
        """Return the context, drop reason and destinations of a request of any shape."""
        context, drop = self._resolve(from_any(request, self._header_names), lambda: request)
        return context, drop, self._select_destinations(lambda: request)

    def _evaluate(
        self, snapshot: Callable[[], RequestData], framework_request: Callable[[], Any]
    ) -> tuple[TrackingContext, DropReason | None]:
        try:
            data = snapshot()
        except Exception as error:
            self._log_callback_error("the request could not be read", error)
            data = RequestData()
        return self._resolve(data, framework_request)

    def _resolve(
        self, data: RequestData, framework_request: Callable[[], Any]
    ) -> tuple[TrackingContext, DropReason | None]:
        settings = self.settings
        resolution = resolve(
            data,
            anonymous_id_cookie=settings.anonymous_id_cookie,
            anonymous_id_header=settings.anonymous_id_header,
            client_ip=settings.client_ip,
            trusted_proxies=settings.trusted_proxies,
        )
        for name in resolution.invalid:
            self._count(f"invalid:{name}")
            self._log(logging.WARNING, f"{name} contains an invalid id, which counts as missing")
        refused = resolution.context.opted_out
        drop = DropReason.CONSENT if refused else self._drop_reason(data, framework_request)
        # Without consent the ids are not kept either; the carrier of a job or a webhook contains only the refusal.
        return OPTED_OUT if drop is DropReason.CONSENT else resolution.context, drop

    def _select_destinations(self, framework_request: Callable[[], Any]) -> frozenset[str] | DropReason | None:
        if self.settings.choose_destinations is None:
            return None
        try:
            return validate_destinations(run(self.settings.choose_destinations, framework_request()), self._names)
        except Exception as error:
            # One tenant's records must not reach all the others.
            self._log_callback_error("choose_destinations failed, so the records are dropped", error)
            return DropReason.CHOICE_ERROR

    def _drop_reason(self, data: RequestData, framework_request: Any) -> DropReason | None:
        settings = self.settings
        try:
            if settings.consent != "all" and not consents(settings.consent, data):
                return DropReason.CONSENT
        except Exception as error:
            self._log_callback_error("consent failed, which counts as a refusal", error)
            return DropReason.CONSENT
        if data.path is not None and settings.exclude_paths and self._excluded.match(unquote(data.path)):
            return DropReason.EXCLUDED
        if settings.should_capture is not None:
            try:
                if not decide(settings.should_capture, framework_request()):
                    return DropReason.EXCLUDED
            except UnawaitedResult as error:
                # An exception concerns one request; an awaitable is the unread answer to every request.
                self._log_callback_error("should_capture returned no result, which counts as no", error)
                return DropReason.EXCLUDED
            except Exception as error:
                self._log_callback_error("should_capture failed, which counts as yes", error)
        return None

    def _log_callback_error(self, what: str, error: Exception) -> None:
        self._log(logging.ERROR, f"{what}: {type(error).__name__}: {error}", key=what)


class LazyContext(Struct, gc=False):
    """The context of a request, evaluated on the first call, on whichever thread that is."""

    evaluate: Callable[[Callable[[], RequestData], Callable[[], Any]], tuple[TrackingContext, DropReason | None]]
    snapshot: Callable[[], RequestData]
    evaluated: tuple[TrackingContext, DropReason | None] | None = None

    def __call__(self) -> tuple[TrackingContext, DropReason | None]:
        if self.evaluated is None:
            self.evaluated = self.evaluate(self.snapshot, _no_request)
        return self.evaluated


def _no_request() -> None:
    """Return None in place of the request, which has been released."""
