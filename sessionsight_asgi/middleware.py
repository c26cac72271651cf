"""Pure ASGI middleware: adds analytics to each request, and ends them with the response."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NoReturn

from sessionsight import Analytics, Client, ConfigurationError, Settings
from sessionsight.adapters import (
    ContentLengthTracker,
    RequestScope,
    ThrottledLogger,
    client_for_adapter,
    flush_on_shutdown,
    reset_current,
    scope_of,
    set_current,
)
from sessionsight.destinations import Signal
from sessionsight_asgi.connection import install_property
from sessionsight_asgi.cors import SIGNAL_HEADERS, blocked_headers
from sessionsight_asgi.request import AsgiRequest, Scope
from sessionsight_asgi.stack import is_added_to_starlette

__all__ = ["AnalyticsMiddleware"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class AnalyticsMiddleware:
    """Puts analytics into each request of an ASGI app, as `scope["analytics"]`.

    In Starlette and FastAPI it is `request.analytics` as well. The records of a request are submitted
    when its response ends; later ones, and those of a websocket, at once. At the server's shutdown
    it waits for delivery, no longer than `shutdown_timeout`.

    Inside another instance it only reads the scope that it gets there, which may be a copy that contains the user.

    Args:
        app: The app.
        client: A client to share; a new one by default, which has its own connections and queues.
        settings: For a new client, in place of options.
        **options: Settings for a new client, by name in lower case; without any, the environment.

    Raises:
        ConfigurationError: A setting is unknown or wrong. If it was added by `app.add_middleware`, the app's start
            fails instead, because Starlette instantiates its middlewares no sooner.

    Example:
        >>> from starlette.applications import Starlette
        >>> app = AnalyticsMiddleware(Starlette(), destinations={"analyse": {"public_key": "pk_live_1"}})

        Starlette and FastAPI can add it themselves:

        >>> app = Starlette()
        >>> app.add_middleware(AnalyticsMiddleware, destinations={"analyse": {"public_key": "pk_live_1"}})
    """

    def __init__(
        self, app: ASGIApp, /, client: Client | None = None, settings: Settings | None = None, **options: Any
    ) -> None:
        self.app = app
        self.configuration_error: ConfigurationError | None = None
        """The reason why there is no client: a wrong setting, which the app's start reports."""
        install_property()
        try:
            self.client = client_for_adapter(client, settings, options, where="AnalyticsMiddleware")
        except ConfigurationError as error:
            # An exception during the first message means to a server that the app does not support lifespans.
            if not is_added_to_starlette(app):
                raise
            self.configuration_error = error
            return
        settings = self.client.settings
        self._checks_cors = not settings.disabled and any(isinstance(one, Signal) for one in settings.destinations)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if self.configuration_error is not None:
            await _fail(self.configuration_error, kind, receive, send)
        if kind == "lifespan":
            await self.app(scope, receive, flush_on_shutdown(send, lambda: self.client))
            return
        if kind not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        if (outer := scope.get("analytics")) is not None and isinstance(outer, Analytics):
            scope_of(outer).bind_request(AsgiRequest(scope))
            await self.app(scope, receive, send)
            return
        client = self.client
        request_scope = RequestScope(client, AsgiRequest(scope))
        analytics = scope["analytics"] = Analytics(request_scope)
        ends_early = client.must_submit_early()
        if kind == "http":
            if ends_early:
                send = _end_before_last_message(request_scope, send, scope["method"])
            else:
                send = _end_after_last_message(request_scope, send)
            if client.pageviews:
                send = _report_response_start(request_scope, send, scope["method"])
        else:
            request_scope.end()
        starlette = scope.get("app")  # the app that has added this middleware; a mounted app replaces it
        token = set_current(analytics)
        try:
            await self.app(scope, receive, send)
        except Exception:
            if ends_early:  # an outer app sends the response to the error
                await request_scope.aend_before_last_byte()
            raise
        else:
            if ends_early:  # background tasks may have captured something
                await request_scope.aend_before_last_byte()
        finally:
            reset_current(token)
            request_scope.close()
            if self._checks_cors:  # now, because an app that we wrap instantiates its middlewares at its first request
                self._checks_cors = False
                _warn_about_cors(starlette, self.app)


def _warn_about_cors(*apps: Any) -> None:
    blocked = blocked_headers(*apps)
    if blocked:
        names = ", ".join(f'"{name}"' for name in SIGNAL_HEADERS)
        ThrottledLogger().log(
            logging.WARNING,
            f"CORSMiddleware does not allow {', '.join(blocked)}: browsers reject the requests to other origins "
            f"to which Signal's script adds them; add {names} to allow_headers",
        )


async def _fail(error: ConfigurationError, kind: str, receive: Receive, send: Send) -> NoReturn:
    """Fail the server's start; without a lifespan, fail each request, and log the reason."""
    if kind == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"sessionsight: {error}"})
    else:
        _logger.log(logging.ERROR, f"{error}; no request is served until this is corrected", key="configuration")
    raise type(error)(*error.args)


_logger = ThrottledLogger()


def _report_response_start(request_scope: RequestScope, send: Send, method: str) -> Send:
    """Wrap `send`, so that the scope gets to know how the response begins."""

    async def report_and_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            types = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
            request_scope.response_started(method, message["status"], types[0].decode("latin-1") if types else None)
        await send(message)

    return report_and_send


def _end_after_last_message(request_scope: RequestScope, send: Send) -> Send:
    """Wrap `send`, so that the scope ends after the last message of the response."""
    trailers = False

    async def send_and_end(message: Message) -> None:
        nonlocal trailers
        await send(message)
        if message["type"] == "http.response.start":
            trailers = message.get("trailers", False)
            if request_scope.has_pending and _is_open_ended(message):
                request_scope.stays_open()
        elif _is_last(message, trailers):
            request_scope.end()
        else:
            request_scope.stays_open()

    return send_and_end


def _end_before_last_message(request_scope: RequestScope, send: Send, method: str) -> Send:
    """Wrap `send`, so that the scope ends before the byte that completes the response."""
    trailers = False
    tracker = ContentLengthTracker(method)

    async def end_and_send(message: Message) -> None:
        nonlocal trailers
        if message["type"] == "http.response.start":
            trailers = message.get("trailers", False)
            complete = tracker.response_started(message["status"], message.get("headers", ()))
            goes_on = _is_open_ended(message)
        else:
            complete = _completes(message, tracker) or _is_last(message, trailers)
            goes_on = not complete
        if complete:
            await request_scope.aend_before_last_byte()
        elif goes_on:
            request_scope.stays_open()
        await send(message)

    return end_and_send


def _is_open_ended(message: Message) -> bool:
    """Return whether a response that starts has no known length, such as server-sent events."""
    return not any(name == b"content-length" for name, _ in message.get("headers", ()))


def _completes(message: Message, tracker: ContentLengthTracker) -> bool:
    """Return whether this message completes the announced number of bytes."""
    kind = message["type"]
    if kind == "http.response.body":
        return tracker.about_to_write(len(message.get("body", b"")))
    if kind == "http.response.zerocopysend":
        # Without a count it is the rest of a file, whose size only the server knows.
        count = message.get("count")
        return count is None or tracker.about_to_write(count)
    return bool(kind == "http.response.pathsend")


def _is_last(message: Message, trailers: bool) -> bool:  # noqa: FBT001  # each message pays for a keyword
    """Return whether this message ends the response.

    See https://asgi.readthedocs.io/en/latest/extensions.html.
    """
    kind = message["type"]
    if kind in {"http.response.body", "http.response.zerocopysend"}:
        return not (trailers or message.get("more_body"))
    if kind == "http.response.pathsend":
        return not trailers
    return kind == "http.response.trailers" and not message.get("more_trailers")
