"""The Flask extension: `request.analytics`, and a client for each app."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Request, current_app, g, has_app_context, has_request_context, request
from flask import globals as flask_globals
from flask.ctx import AppContext, RequestContext
from msgspec import Struct
from werkzeug.local import LocalProxy

from sessionsight import Analytics, Client, ConfigurationError, NoClientError
from sessionsight.adapters import (
    HeaderNames,
    RequestData,
    RequestScope,
    current_in,
    is_current,
    register_framework,
    scope_of,
    snapshot_environ,
)
from sessionsight.wsgi import ENVIRON_KEY, AnalyticsMiddleware
from sessionsight_flask.commands import commands
from sessionsight_flask.config import changed_settings, late_message, read_settings, settings_snapshot

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["FlaskRequest", "SessionSight", "current_analytics"]

_NAME = "sessionsight"


class SessionSight:
    """Adds `request.analytics` to an app's requests, also in error handlers and for unknown paths.

    Settings are taken from `app.config`, by their names in upper case after `SESSIONSIGHT_`:
    `SESSIONSIGHT_DESTINATIONS`, `SESSIONSIGHT_CONSENT` and so on. Destinations that are not set there come
    from the environment. `SESSIONSIGHT_STRICT` follows `app.debug`.

    The signed-in user is Flask-Login's, once the app has loaded it; for other sources, see `SESSIONSIGHT_USER`.

    Args:
        app: An app to set up at once; otherwise call `init_app` later.
        client: A client to share, in place of the configuration; a new one for each app by default.

    Example:
        >>> from flask import Flask, request
        >>> analytics = SessionSight()
        >>> app = Flask("shop")
        >>> app.config["SESSIONSIGHT_DESTINATIONS"] = {"analyse": {"public_key": "pk_live_1"}}
        >>> analytics.init_app(app)
        >>> @app.post("/orders")
        ... def create_order():
        ...     request.analytics.capture("order_processed")
        ...     return "", 201
    """

    def __init__(self, app: Flask | None = None, *, client: Client | None = None) -> None:
        self._client = client
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up an app.

        Raises:
            ConfigurationError: A setting is unknown or wrong, or the app has been set up already.
        """
        if _NAME in app.extensions:
            raise ConfigurationError(
                f"SessionSight is set up for {app!r} already; call init_app once for each app, "
                "and not for one that was passed to SessionSight(app)"
            )
        client = self._client or Client(read_settings(app))
        before = settings_snapshot(app)

        def late() -> list[str]:
            return [] if self._client is client else changed_settings(app, before)

        def warn_of_late() -> None:
            if names := late():
                client.warn(f"app.config: {late_message(names)}", key="late settings")

        app.extensions[_NAME] = client
        app.cli.add_command(commands(lambda: client, late))
        app.wsgi_app = AnalyticsMiddleware(app.wsgi_app, client)  # type: ignore[method-assign]
        app.request_context = _RequestContexts(app.request_context, client, warn_of_late)  # type: ignore[method-assign]
        register_framework(_FRAMEWORK)

    @property
    def client(self) -> Client:
        """The client of the current app.

        Raises:
            NoClientError: The current app has not been set up.
        """
        client = current_app.extensions.get(_NAME)
        if client is None:
            raise NoClientError(f"{current_app!r} has no analytics; call init_app(app) when it is created")
        return cast("Client", client)


class FlaskRequest(Struct, eq=False):
    """Reads Flask's request.

    Args:
        request: Flask's own.
    """

    request: Request

    def snapshot(self, names: HeaderNames) -> Callable[[], RequestData]:
        """Return a function that gives the raw strings of the request, without keeping it."""
        return snapshot_environ(self.request.environ, names)

    def framework_request(self) -> Any:
        """Return the request itself."""
        return self.request

    def user_id(self) -> str | None:
        """Return the id of Flask-Login's user, if the app has loaded it, or has logged it in, in this request."""
        if "flask_login" not in sys.modules:  # accessing `g` is expensive
            return None
        user = g.get("_login_user") if has_app_context() else None
        if user is None or not getattr(user, "is_authenticated", False):
            return None
        found = user.get_id()
        return None if found is None else str(found)

    def route(self) -> str | None:
        """Return the rule of the matched route, such as `/orders/<int:order_id>`."""
        rule = self.request.url_rule
        return None if rule is None else str(rule.rule)


# Flask 3.2 has one context for app and request. A copy of it shares the request and not the context.
_context: Any = flask_globals.app_ctx if hasattr(AppContext, "from_environ") else flask_globals.request_ctx


class _RequestContexts:
    """Wraps an app's `request_context` method, so that each request gets its analytics, whatever its class and caller.

    Args:
        make: The method that it replaces.
        client: The app's client.
        before_first: Called once, before the first request.
    """

    __slots__ = ("_before_first", "_client", "_make")

    def __init__(
        self, make: Callable[[WSGIEnvironment], RequestContext], client: Client, before_first: Callable[[], None]
    ) -> None:
        self._make = make
        self._client = client
        self._before_first: Callable[[], None] | None = before_first

    def __call__(self, environ: WSGIEnvironment) -> RequestContext:
        if self._before_first is not None:
            self._before_first()
            self._before_first = None
        context = self._make(environ)
        request: Any = context.request
        analytics: Analytics | None = environ.get(ENVIRON_KEY)
        served = analytics is not None
        if analytics is None:
            # `app.test_request_context()`, or a server that keeps an earlier `app.wsgi_app`: there is no response.
            scope = RequestScope(self._client, FlaskRequest(request))
            scope.end()
            analytics = Analytics(scope)
        else:
            scope = scope_of(analytics)
            scope.bind_request(FlaskRequest(request), can_read_user=_is_active_request)
        request.analytics = analytics
        # Flask calls it before `session` and `g` are removed; a teardown function would cost each request much more.
        request.close = _CloseHook(context, scope, served)
        return context


class _CloseHook(Struct, frozen=True):
    """Replaces a request's `close`: takes a last snapshot of the request, then calls the original method."""

    context: RequestContext
    scope: RequestScope
    served: bool
    """True when the middleware ends the scope with the response."""

    def __call__(self) -> None:
        request = self.context.request
        if _context._get_current_object() is self.context:  # noqa: SLF001  # Werkzeug's documented way to the object
            del vars(request)["close"]  # it and the request would keep each other alive
            if not self.served:
                self.scope.close()
            elif is_current(self.scope):
                self.scope.snapshot()
        type(request).close(request)


def _is_active_request(scope: RequestScope) -> bool:
    """Return whether `session` and `g` are those of the request that the scope belongs to."""
    return is_current(scope) and has_request_context()


class _FlaskFramework:
    """Flask's own current request and current app, for `sessionsight.current()` and `get_client()`."""

    def analytics(self) -> Analytics | None:
        """Return the analytics of the current request, in copies of its context and in test contexts as well."""
        analytics = getattr(request, "analytics", None) if has_request_context() else None
        return analytics if isinstance(analytics, Analytics) else None

    def client(self) -> Client | None:
        """Return the client of the current app, such as that of a command."""
        return current_app.extensions.get(_NAME) if has_app_context() else None


_FRAMEWORK = _FlaskFramework()

current_analytics = cast("Analytics", LocalProxy(partial(current_in, _FRAMEWORK)))
"""`sessionsight.current()` as a proxy, as Flask's `current_app` is one: `request.analytics`, typed, below the view.

In an app context without a request, such as a command's, it is that of the app's own client.

Example:
    >>> from sessionsight_flask import current_analytics
    >>> def pay(order_id: str) -> None:
    ...     current_analytics.capture("order_processed", {"order_id": order_id})
"""
