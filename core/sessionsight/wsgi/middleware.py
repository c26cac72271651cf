"""Middleware for any WSGI app: attaches analytics to each request, and ends them with the response."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sessionsight import Analytics, Client, Settings
from sessionsight.capture.current import enter, leave
from sessionsight.capture.interfaces import RequestReader
from sessionsight.process import client_for_adapter
from sessionsight.request.raw import snapshot_environ
from sessionsight.test_mode import test_mode
from sessionsight.wsgi.response_body import Body, FinishedBody, LastByte, SizedBody, announcing, end_with_file, is_file

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["KEY", "AnalyticsMiddleware", "EnvironReader"]

KEY = "sessionsight.analytics"
"""Where a request's analytics are in its environ."""


class EnvironReader:
    """Reads WSGI environs. They tell neither user nor route: give the `user` setting a function of the environ."""

    snapshot = staticmethod(snapshot_environ)

    def native(self, request: WSGIEnvironment) -> Any:
        """The environ itself."""
        return request

    def user_id(self, request: WSGIEnvironment) -> str | None:
        """None. `REMOTE_USER` is not taken: behind a password for the whole site it is the same for all."""
        return None

    def route(self, request: WSGIEnvironment) -> str | None:
        """None: routes are a framework's business."""
        return None


_READER = EnvironReader()
# Not their subclasses, which may make chunks as they are asked for them.
_FINISHED = frozenset({list, tuple})


class AnalyticsMiddleware:
    """Puts analytics into each request of a WSGI app, as `environ["sessionsight.analytics"]`.

    What a request captured is handed over when its response is closed; later captures at once. Around
    an app that is served by this middleware already, it does nothing.

    Args:
        app: The app.
        client: A client to share; a new one by default, which keeps its own connections and queues.
        settings: For a new client, in place of options.
        reader: Knows more of the requests than their environs: their routes, their users.
        **options: Settings for a new client, by name in lower case; without any, the environment.

    Raises:
        ConfigurationError: A setting that is unknown or wrong.

    Example:
        >>> def app(environ, start_response):
        ...     environ["sessionsight.analytics"].capture("report_exported", user_id="user_1")
        ...     start_response("204 No Content", [])
        ...     return []
        >>> app = AnalyticsMiddleware(app, destinations={"analyse": {"public_key": "pk_live_1"}})
    """

    def __init__(
        self,
        app: WSGIApplication,
        client: Client | None = None,
        settings: Settings | None = None,
        *,
        reader: RequestReader = _READER,
        **options: Any,
    ) -> None:
        self.app = app
        self.client = client_for_adapter(client, settings, options, where="AnalyticsMiddleware")
        self.reader = reader

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if KEY in environ:
            return self.app(environ, start_response)
        analytics = environ[KEY] = Analytics(self.client, self.reader, environ)
        if "HTTP_UPGRADE" in environ:  # a websocket, whose view goes on for as long as it is open
            analytics.stays_open()
        # Test clients do not close a response of which a test reads nothing but the status.
        early = self.client.submit_before_last_byte or test_mode.recording
        last_byte = LastByte(analytics, environ["REQUEST_METHOD"]) if early else None
        if last_byte is not None:
            start_response = last_byte.watch(start_response)
        if self.client.pageviews:
            start_response = announcing(start_response, analytics, environ["REQUEST_METHOD"])
        try:
            token = enter(analytics)
            try:
                body = self.app(environ, start_response)
            finally:
                leave(token)
            if last_byte is not None:
                last_byte.app_returned()
            elif type(body) in _FINISHED:
                return FinishedBody(body, analytics)  # type: ignore[arg-type]
            file_wrapper = environ.get("wsgi.file_wrapper")
            if file_wrapper is not None and is_file(body, file_wrapper):
                end_with_file(body, analytics, early=self.client.submit_before_last_byte)
                return body
            return (SizedBody if hasattr(body, "__len__") else Body)(body, analytics, last_byte)
        except BaseException as error:
            if last_byte is not None and isinstance(error, Exception):
                analytics.finish()
            analytics.release()
            raise
