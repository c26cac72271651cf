"""Pure ASGI middleware: attaches analytics to each request, and ends them with the response."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NoReturn

from sessionsight import Analytics, Client, ConfigurationError, Settings
from sessionsight.capture.current import enter, leave
from sessionsight.content_length import ContentLengthTracker
from sessionsight.destinations import Signal
from sessionsight.log import ThrottledLogger
from sessionsight.process import client_for_adapter
from sessionsight.test_mode import test_mode
from sessionsight_asgi.connection import install_property
from sessionsight_asgi.cors import SIGNAL_HEADERS, blocked_headers
from sessionsight_asgi.reader import Scope, ScopeReader
from sessionsight_asgi.stack import is_added_to_starlette

__all__ = ["AnalyticsMiddleware"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_READER = ScopeReader()


class AnalyticsMiddleware:
    """Puts analytics into each request of an ASGI app, as `scope["analytics"]`.

    In Starlette and FastAPI it is `request.analytics` as well. What a request captured is handed over
    when its response ends; later captures, and those of a websocket, at once. When the server shuts
    down, delivery is waited for, no longer than `shutdown_timeout`.

    Inside another of its kind it only reads the scope that it is given there, which may be a copy with the
    user in it.

    Args:
        app: The app.
        client: A client to share; a new one by default, which keeps its own connections and queues.
        settings: For a new client, in place of options.
        **options: Settings for a new client, by name in lower case; without any, the environment.

    Raises:
        ConfigurationError: A setting that is unknown or wrong. Where `app.add_middleware` was used, the app's start
            fails with it: Starlette makes its middlewares no sooner.

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
        """Why it has no client: a wrong setting, of which the app's start tells."""
        install_property()
        try:
            self.client = client_for_adapter(client, settings, options, where="AnalyticsMiddleware")
        except ConfigurationError as error:
            # A server takes what is raised while it sends its first message for an app without a lifespan.
            if not is_added_to_starlette(app):
                raise
            self.configuration_error = error
            return
        settings = self.client.settings
        self._look_at_cors = not settings.disabled and any(isinstance(one, Signal) for one in settings.destinations)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if self.configuration_error is not None:
            await _refuse(self.configuration_error, kind, receive, send)
        if kind == "lifespan":
            await self.app(scope, receive, self._draining(send))
            return
        if kind not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        if isinstance(outer := scope.get("analytics"), Analytics):
            outer.follow(scope)
            await self.app(scope, receive, send)
            return
        analytics = scope["analytics"] = Analytics(self.client, _READER, scope)
        if kind == "http":
            if self.client.submit_before_last_byte or test_mode.recording:
                send = _finishing(analytics, send, scope["method"])
            else:
                send = _ending(analytics, send)
            if self.client.pageviews:
                send = _announcing(analytics, send, scope["method"])
        else:
            analytics.end()
        above = scope.get("app")  # where a Starlette app has added us; a mounted one puts itself in its place
        token = enter(analytics)
        try:
            await self.app(scope, receive, send)
        except Exception:
            if self.client.submit_before_last_byte:  # the answer to the error is sent by somebody else
                await analytics.afinish()
            raise
        else:
            if self.client.submit_before_last_byte:  # background tasks may have captured something
                await analytics.afinish()
        finally:
            leave(token)
            analytics.release()
            if self._look_at_cors:  # now, since an app that we wrap makes its middlewares at its first request
                self._look_at_cors = False
                self._tell_of_cors(above)

    def _tell_of_cors(self, above: Any) -> None:
        blocked = blocked_headers(above, self.app)
        if blocked:
            names = ", ".join(f'"{name}"' for name in SIGNAL_HEADERS)
            ThrottledLogger().log(
                logging.WARNING,
                f"CORSMiddleware does not allow {', '.join(blocked)}: browsers refuse the requests of other origins "
                f"to which Signal's script adds them; allow_headers must have {names} beside its own",
            )

    def _draining(self, send: Send) -> Send:
        async def send_when_drained(message: Message) -> None:
            if message["type"] in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
                await self.client.adrain()
            await send(message)

        return send_when_drained


async def _refuse(error: ConfigurationError, kind: str, receive: Receive, send: Send) -> NoReturn:
    """Let the server's start fail; where it tells nothing of its start, let each request fail, and say why."""
    if kind == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"sessionsight: {error}"})
    else:
        _logger.log(logging.ERROR, f"{error}; no request is served until this is right", key="configuration")
    raise type(error)(*error.args)


_logger = ThrottledLogger()


def _announcing(analytics: Analytics, send: Send, method: str) -> Send:
    """A `send` that tells the analytics how the response begins."""

    async def announce_and_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            types = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
            analytics.responds(method, message["status"], types[0].decode("latin-1") if types else None)
        await send(message)

    return announce_and_send


def _ending(analytics: Analytics, send: Send) -> Send:
    """A `send` that ends the analytics after the last message of the response."""
    trailers = False

    async def send_and_end(message: Message) -> None:
        nonlocal trailers
        await send(message)
        if message["type"] == "http.response.start":
            trailers = message.get("trailers", False)
            if analytics.pending and _is_open_ended(message):
                analytics.stays_open()
        elif _is_last(message, trailers):
            analytics.end()
        else:
            analytics.stays_open()

    return send_and_end


def _finishing(analytics: Analytics, send: Send, method: str) -> Send:
    """A `send` that finishes the analytics before the byte that completes the response."""
    trailers = False
    tracker = ContentLengthTracker(method)

    async def finish_and_send(message: Message) -> None:
        nonlocal trailers
        if message["type"] == "http.response.start":
            trailers = message.get("trailers", False)
            complete = tracker.response_started(message["status"], message.get("headers", ()))
            goes_on = _is_open_ended(message)
        else:
            complete = _completes(message, tracker) or _is_last(message, trailers)
            goes_on = not complete
        if complete:
            await analytics.afinish()
        elif goes_on:
            analytics.stays_open()
        await send(message)

    return finish_and_send


def _is_open_ended(message: Message) -> bool:
    """Return whether a response that starts has no known length, such as server-sent events."""
    return not any(name == b"content-length" for name, _ in message.get("headers", ()))


def _completes(message: Message, tracker: ContentLengthTracker) -> bool:
    """Return whether this message completes the announced number of bytes."""
    kind = message["type"]
    if kind == "http.response.body":
        return tracker.about_to_write(len(message.get("body", b"")))
    if kind == "http.response.zerocopysend":
        # Without a count it is the rest of a file, whose size only the server finds out.
        count = message.get("count")
        return count is None or tracker.about_to_write(count)
    return bool(kind == "http.response.pathsend")


def _is_last(message: Message, trailers: bool) -> bool:  # noqa: FBT001  # each message pays for a keyword
    """Whether the client has the whole response with this message: https://asgi.readthedocs.io/en/latest/extensions.html."""
    kind = message["type"]
    if kind in {"http.response.body", "http.response.zerocopysend"}:
        return not (trailers or message.get("more_body"))
    if kind == "http.response.pathsend":
        return not trailers
    return kind == "http.response.trailers" and not message.get("more_trailers")
