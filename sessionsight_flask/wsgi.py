"""Middleware for any WSGI app: attaches analytics to each request, and ends them with the response."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sessionsight import Analytics, Client, Settings
from sessionsight.analytics import RequestReader
from sessionsight.client import adopt
from sessionsight.current import within
from sessionsight.request_data import HeaderNames, RequestData, from_environ, later_from_environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["KEY", "AnalyticsMiddleware", "EnvironReader"]

KEY = "sessionsight.analytics"
"""Where a request's analytics are in its environ."""


class EnvironReader:
    """Reads WSGI environs. They tell neither user nor route: give the `user` setting a function of the environ."""

    def request_data(self, request: WSGIEnvironment, names: HeaderNames) -> RequestData:
        """The raw strings of the request."""
        return from_environ(request, names)

    def later(self, request: WSGIEnvironment, names: HeaderNames) -> Callable[[], RequestData]:
        """The same when it is called, without holding the environ."""
        return later_from_environ(request, names)

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
        self.client = adopt(client, settings, options, where="AnalyticsMiddleware")
        self.reader = reader

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if KEY in environ:
            return self.app(environ, start_response)
        analytics = environ[KEY] = Analytics(self.client, self.reader, environ)
        countdown = Countdown(analytics) if self.client.early else None
        if countdown is not None:
            start_response = countdown.watch(start_response)
        try:
            body = within(analytics, self.app, environ, start_response)
            if _is_file(body, environ.get("wsgi.file_wrapper")):
                _end_with_file(body, analytics, early=self.client.early)
                return body
            return (SizedBody if hasattr(body, "__len__") else Body)(body, analytics, countdown)
        except BaseException:
            analytics.release()
            raise


class Countdown:
    """Finishes analytics before the last byte of a response that says its length goes to the server."""

    __slots__ = ("_analytics", "_left")

    def __init__(self, analytics: Analytics) -> None:
        self._analytics = analytics
        self._left: int | None = None

    def watch(self, start_response: StartResponse) -> StartResponse:
        """A `start_response` that learns the length, and counts what is written by the old `write` function."""

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            lengths = [value for name, value in headers if name.lower() == "content-length"]
            self._left = int(lengths[0]) if lengths and lengths[0].isdecimal() else None
            write = start_response(status, headers, *exc_info)

            def count_and_write(data: bytes) -> object:
                self.before(data)
                return write(data)

            return count_and_write

        return start

    def before(self, data: bytes) -> None:
        """This chunk goes next."""
        if self._left is not None:
            self._left -= len(data)
            if self._left <= 0:
                self._analytics.finish()


class Body:
    """A response's body, whose chunks are made while its request's analytics are current."""

    def __init__(self, body: Iterable[bytes], analytics: Analytics, countdown: Countdown | None) -> None:
        self._body = body
        self._analytics = analytics
        self._countdown = countdown
        self._chunks: Iterator[bytes] = within(analytics, iter, body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            chunk: bytes = within(self._analytics, next, self._chunks)
        except StopIteration:
            if self._countdown is None:
                self._analytics.end()
            else:
                self._analytics.finish()
            raise
        if self._countdown is not None:
            self._countdown.before(chunk)
        return chunk

    def close(self) -> None:
        """The server is done with the response, or has lost its client."""
        try:
            if hasattr(self._body, "close"):
                within(self._analytics, self._body.close)
        finally:
            self._analytics.release()


class SizedBody(Body):
    """A list or tuple of chunks: servers work out a Content-Length where they can see that there is but one."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


def _is_file(body: object, file_wrapper: Any) -> bool:
    """Whether the server would send this body by sendfile, as long as nobody wraps it."""
    if isinstance(file_wrapper, type):
        return isinstance(body, file_wrapper)
    # uWSGI's is a function that gives the file itself back.
    return file_wrapper is not None and hasattr(body, "fileno")


def _end_with_file(body: Any, analytics: Analytics, *, early: bool) -> None:
    if early:
        analytics.finish()
    close = getattr(body, "close", None)

    def close_and_release() -> None:
        try:
            if close is not None:
                within(analytics, close)
        finally:
            analytics.release()

    try:
        body.close = close_and_release
    except AttributeError:  # a file made in C
        analytics.release()
