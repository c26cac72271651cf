"""The Flask extension: `request.analytics`, and a client for each app."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

from flask import Flask, Request, current_app, g, has_app_context, has_request_context, request
from werkzeug.local import LocalProxy

from sessionsight import Analytics, Client, ConfigurationError, NoClientError, Settings, current
from sessionsight.current import entered
from sessionsight.request_data import HeaderNames, RequestData, snapshot_of_environ
from sessionsight_flask.commands import commands
from sessionsight_flask.wsgi import KEY, AnalyticsMiddleware

__all__ = ["FlaskReader", "SessionSight", "current_analytics"]

_NAME = "sessionsight"
_PREFIX = "SESSIONSIGHT_"
_OPTIONS = {_PREFIX + name.upper(): name for name in Settings.__struct_fields__}


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
        client = self._client or Client(_settings(app))
        app.extensions[_NAME] = client
        app.cli.add_command(commands(lambda: client))
        app.wsgi_app = AnalyticsMiddleware(app.wsgi_app, client)  # type: ignore[method-assign]
        app.request_class = _request_class(app.request_class, client)

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
        return snapshot_of_environ(request.environ, names)

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


def _settings(app: Flask) -> Settings:
    options: dict[str, Any] = {}
    for name, value in app.config.items():
        if name.startswith(_PREFIX):
            if name not in _OPTIONS:
                raise ConfigurationError.unknown(name, _OPTIONS, where="app.config")
            options[_OPTIONS[name]] = value
    return Settings.from_mapping(options, where="app.config", strict=bool(app.debug))


def _request_class(base: type[Request], client: Client) -> type[Request]:
    """The app's request class, with `analytics` from the first moment of a request on."""

    def __init__(self: Request, environ: dict[str, Any], *args: Any, **options: Any) -> None:  # noqa: N807
        base.__init__(self, environ, *args, **options)
        analytics: Analytics | None = environ.get(KEY)
        if analytics is None:  # `app.test_request_context()`: there is no response to wait for
            analytics = Analytics(client, _READER, self)
            analytics.end()
        else:
            analytics.attach(_READER, self, ask_while=_is_served)
        self.analytics = analytics  # type: ignore[attr-defined]

    def close(self: Request) -> None:
        # Flask calls it before `session` and `g` go; a function for the teardown would cost each request much more.
        analytics: Analytics = self.analytics  # type: ignore[attr-defined]
        if entered() is analytics:
            analytics.look()
        base.close(self)

    members = {"__init__": __init__, "close": close, "__module__": base.__module__, "__doc__": base.__doc__}
    return type(base.__name__, (base,), members)


def _is_served(analytics: object) -> bool:
    """Whether `session` and `g` are those of the request that these analytics belong to."""
    return entered() is analytics and has_request_context()


def _current() -> Analytics:
    analytics: Analytics | None = getattr(request, "analytics", None) if has_request_context() else None
    analytics = analytics or entered()
    if analytics is None and has_app_context() and (client := current_app.extensions.get(_NAME)) is not None:
        analytics = cast("Client", client).analytics
    return current() if analytics is None else analytics


current_analytics = cast("Analytics", LocalProxy(_current))
"""`request.analytics`, typed, and found below the view without passing the request on, as Flask's `current_app` is.

In an app context without a request, such as a command's, it is that of the app's own client.

Example:
    >>> from sessionsight_flask import current_analytics
    >>> def pay(order_id: str) -> None:
    ...     current_analytics.capture("order_processed", {"order_id": order_id})
"""
