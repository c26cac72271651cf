"""Middleware for any WSGI app: adds analytics to each request, and ends them with the response."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sessionsight import Analytics, Client, Settings
from sessionsight.adapters import (
    HeaderNames,
    RequestData,
    RequestReader,
    RequestScope,
    client_for_adapter,
    reset_current,
    set_current,
    snapshot_environ,
)
from sessionsight.wsgi.response_body import (
    CompletedResponseBody,
    LastByteHook,
    ResponseBody,
    SizedResponseBody,
    close_with_file,
    is_file,
    observe_start_response,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["ENVIRON_KEY", "AnalyticsMiddleware", "EnvironRequest"]

ENVIRON_KEY = "sessionsight.analytics"
"""The key of a request's analytics in its environ."""


class EnvironRequest(Struct, eq=False):
    """Reads a WSGI environ, which has neither user nor route: set the `user` setting to a function of the environ.

    Args:
        environ: As the server passes it.
    """

    environ: dict[str, Any]

    def snapshot(self, names: HeaderNames) -> Callable[[], RequestData]:
        """Return a function that gives the raw strings of the request."""
        return snapshot_environ(self.environ, names)

    def framework_request(self) -> Any:
        """Return the environ itself."""
        return self.environ

    def user_id(self) -> str | None:
        """Return None. `REMOTE_USER` is not used: with one password for the whole site it is the same for everybody."""
        return None

    def route(self) -> str | None:
        """Return None, because WSGI has no routes."""
        return None


# Not their subclasses, which may make their chunks during the iteration.
_COMPLETED = frozenset({list, tuple})


class AnalyticsMiddleware:
    """Puts analytics into each request of a WSGI app, as `environ["sessionsight.analytics"]`.

    The records of a request are submitted when its response is closed; later ones at once. Around
    an app that is served by this middleware already, it does nothing.

    Args:
        app: The app.
        client: A client to share; a new one by default, which has its own connections and queues.
        settings: For a new client, in place of options.
        request_class: Returns the reader of an environ: a subclass of `EnvironRequest` that knows routes or users.
        **options: Settings for a new client, by name in lower case; without any, the environment.

    Raises:
        ConfigurationError: A setting is unknown or wrong.

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
        request_class: Callable[[WSGIEnvironment], RequestReader] = EnvironRequest,
        **options: Any,
    ) -> None:
        self.app = app
        self.client = client_for_adapter(client, settings, options, where="AnalyticsMiddleware")
        self.request_class = request_class

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if ENVIRON_KEY in environ:
            return self.app(environ, start_response)
        client = self.client
        scope = RequestScope(client, self.request_class(environ))
        analytics = environ[ENVIRON_KEY] = Analytics(scope)
        if "HTTP_UPGRADE" in environ:  # a websocket, whose view runs for as long as it is open
            scope.stays_open()
        last_byte = LastByteHook(scope, environ["REQUEST_METHOD"]) if client.must_submit_early() else None
        if last_byte is not None:
            start_response = last_byte.observe(start_response)
        if client.pageviews:
            start_response = observe_start_response(start_response, scope, environ["REQUEST_METHOD"])
        try:
            token = set_current(analytics)
            try:
                body = self.app(environ, start_response)
            finally:
                reset_current(token)
            if last_byte is not None:
                last_byte.app_returned()
            elif type(body) in _COMPLETED:
                return CompletedResponseBody(body, scope)  # type: ignore[arg-type]
            file_wrapper = environ.get("wsgi.file_wrapper")
            if file_wrapper is not None and is_file(body, file_wrapper):
                if last_byte is not None:
                    scope.end_before_last_byte()
                close_with_file(body, analytics)
                return body
            return (SizedResponseBody if hasattr(body, "__len__") else ResponseBody)(body, analytics, scope, last_byte)
        except BaseException:
            scope.close()
            raise
