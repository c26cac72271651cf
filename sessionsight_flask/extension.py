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
from sessionsight.capture.current import current_in, entered, register_framework
from sessionsight.request.raw import HeaderNames, RequestData, snapshot_environ
from sessionsight.wsgi import KEY, AnalyticsMiddleware
from sessionsight_flask.commands import commands
from sessionsight_flask.config import changed_settings, late_message, read_settings, snapshot

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["FlaskReader", "SessionSight", "current_analytics"]

_NAME = "sessionsight"


class SessionSight:
    """Adds `request.analytics` to an app's requests, in handlers of errors and of unknown paths as well.

    Settings are taken from `app.config`, by their names in upper case after `SESSIONSIGHT_`:
    `SESSIONSIGHT_DESTINATIONS`, `SESSIONSIGHT_CONSENT` and so on. Destinations that are not there come
    from the environment. `SESSIONSIGHT_STRICT` follows `app.debug`.

    The signed-in user is Flask-Login's, once the app has asked for it; for others, see `SESSIONSIGHT_USER`.

    Args:
        app: An app to set up at once; or call `init_app` later.
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
            ConfigurationError: A setting that is unknown or wrong, or the app has been set up already.
        """
        if _NAME in app.extensions:
            raise ConfigurationError(
                f"SessionSight is set up for {app!r} already; call init_app once for each app, "
                "and not at all for one that was given to SessionSight(app)"
            )
        client = self._client or Client(read_settings(app))
        before = snapshot(app)

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
            raise NoClientError(f"{current_app!r} has no analytics; call init_app with it when it is made")
        return cast("Client", client)


class FlaskReader:
    """Reads Flask's requests."""

    def snapshot(self, request: Request, names: HeaderNames) -> Callable[[], RequestData]:
        """What gives the raw strings of the request, without holding it."""
        return snapshot_environ(request.environ, names)

    def native(self, request: Request) -> Any:
        """The request itself."""
        return request

    def user_id(self, request: Request) -> str | None:
        """The id of Flask-Login's user, if the app has asked for it, or has logged it in, in this request."""
        if "flask_login" not in sys.modules:  # `g` is dear to look at
            return None
        user = g.get("_login_user") if has_app_context() else None
        if user is None or not getattr(user, "is_authenticated", False):
            return None
        found = user.get_id()
        return None if found is None else str(found)

    def route(self, request: Request) -> str | None:
        """The rule of the matched route, such as `/orders/<int:order_id>`."""
        rule = request.url_rule
        return None if rule is None else str(rule.rule)


_READER = FlaskReader()
# Flask 3.2 has one context for app and request. A copy of it shares the request and not the context.
_context: Any = flask_globals.app_ctx if hasattr(AppContext, "from_environ") else flask_globals.request_ctx


class _RequestContexts:
    """An app's `request_context`: gives each request its analytics, whoever calls it and whatever class requests have.

    Args:
        make: What stood in its place.
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
        analytics: Analytics | None = environ.get(KEY)
        served = analytics is not None
        if analytics is None:
            # `app.test_request_context()`, or a server that took `app.wsgi_app` before: no response to wait for.
            analytics = Analytics(self._client, _READER, request)
            analytics.end()
        else:
            analytics.attach(_READER, request, ask_while=_is_served)
        request.analytics = analytics
        # Flask calls it before `session` and `g` go; a function for the teardown would cost each request much more.
        request.close = _Close(context, analytics, served)
        return context


class _Close(Struct, frozen=True):
    """Replaces a request's `close`: does what that does, after a last look at the request."""

    context: RequestContext
    analytics: Analytics
    served: bool
    """True when the middleware ends the analytics with the response."""

    def __call__(self) -> None:
        request = self.context.request
        if _context._get_current_object() is self.context:  # noqa: SLF001  # Werkzeug's documented way to the object
            del vars(request)["close"]  # it and the request would keep each other alive
            if not self.served:
                self.analytics.release()
            elif entered() is self.analytics:
                self.analytics.look()
        type(request).close(request)


def _is_served(analytics: object) -> bool:
    """Whether `session` and `g` are those of the request that these analytics belong to."""
    return entered() is analytics and has_request_context()


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
