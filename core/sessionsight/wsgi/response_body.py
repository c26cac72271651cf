"""The end of a WSGI response: when its body is used up, when it is closed, or just before its last byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sessionsight import Analytics
from sessionsight.capture.current import close_within, enter, leave, unbind
from sessionsight.content_length import ContentLengthTracker

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

__all__ = ["Body", "FinishedBody", "LastByte", "SizedBody", "announcing", "end_with_file", "is_file"]


def announcing(start_response: StartResponse, analytics: Analytics, method: str) -> StartResponse:
    """A `start_response` that tells the analytics how the response begins."""

    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
        types = [value for name, value in headers if name.lower() == "content-type"]
        analytics.responds(method, _code(status), types[0] if types else None)
        return start_response(status, headers, *exc_info)

    return start


class LastByte:
    """Finishes analytics before the byte that completes a response goes to the server."""

    __slots__ = ("_analytics", "_tracker")

    def __init__(self, analytics: Analytics, method: str) -> None:
        self._analytics = analytics
        self._tracker = ContentLengthTracker(method)

    def watch(self, start_response: StartResponse) -> StartResponse:
        """A `start_response` that reads the length, and counts what is written by the old `write` function."""

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            # Nothing leaves yet: PEP 3333 keeps the headers back until there is a chunk, or no more of them.
            self._tracker.response_started(_code(status), headers)
            write = start_response(status, headers, *exc_info)

            def count_and_write(data: bytes) -> object:
                self.about_to_write(len(data))
                return write(data)

            return count_and_write

        return start

    def app_returned(self) -> None:
        """Finish now if there is no byte to wait for: not every server asks for a body that it does not send."""
        if self._tracker.is_complete:
            self._analytics.finish()

    def about_to_write(self, size: int) -> None:
        """Count a chunk that goes next."""
        if self._tracker.about_to_write(size):
            self._analytics.finish()


class Body:
    """A response's body, whose chunks are made while its request's analytics are current."""

    __slots__ = ("_analytics", "_body", "_chunks", "_last_byte")

    def __init__(self, body: Iterable[bytes], analytics: Analytics, last_byte: LastByte | None) -> None:
        self._body = body
        self._analytics = analytics
        self._last_byte = last_byte
        token = enter(analytics)
        try:
            self._chunks: Iterator[bytes] = iter(body)
        finally:
            leave(token)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = enter(self._analytics)
        try:
            chunk = next(self._chunks)
        except StopIteration:
            if self._last_byte is None:
                self._analytics.end()
            else:
                self._analytics.finish()
            unbind(self._analytics)
            raise
        except Exception:
            if self._last_byte is not None:
                self._analytics.finish()
            raise
        finally:
            leave(token)
        self._analytics.stays_open()
        if self._last_byte is not None:
            self._last_byte.about_to_write(len(chunk))
        return chunk

    def close(self) -> None:
        """The server is done with the response, or has lost its client."""
        close = getattr(self._body, "close", None)
        if close is None:
            self._analytics.release()
        else:
            close_within(self._analytics, close)


class SizedBody(Body):
    """A body of a known number of chunks: of a single one, servers compute the Content-Length themselves."""

    __slots__ = ()

    def __next__(self) -> bytes:
        chunk = super().__next__()
        if self._last_byte is not None and len(self) == 1:
            self._analytics.finish()
        return chunk

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


class FinishedBody:
    """A list or tuple whose chunks have all been made, so that only the end is left to be seen."""

    __slots__ = ("_analytics", "_body")

    def __init__(self, body: list[bytes] | tuple[bytes, ...], analytics: Analytics) -> None:
        self._body = body
        self._analytics = analytics

    def __iter__(self) -> Iterator[bytes]:
        yield from self._body
        self._analytics.end()
        unbind(self._analytics)

    def __len__(self) -> int:
        return len(self._body)

    def close(self) -> None:
        """The server is done with the response."""
        self._analytics.release()


def is_file(body: object, file_wrapper: Any) -> bool:
    """Return whether the server would send this body by sendfile, as long as nobody wraps it."""
    if isinstance(file_wrapper, type):
        return isinstance(body, file_wrapper)
    # uWSGI's is a function that gives the file itself back.
    return hasattr(body, "fileno")


def end_with_file(body: Any, analytics: Analytics, *, early: bool) -> None:
    """Leave the body as it is, and end its analytics when the server closes it."""
    if early:
        analytics.finish()
    close = getattr(body, "close", None)

    def close_and_release() -> None:
        if close is None:
            analytics.release()
        else:
            close_within(analytics, close)

    try:
        body.close = close_and_release
    except AttributeError:  # a file made in C
        analytics.release()


def _code(status: str) -> int:
    code = status[:3]
    return int(code) if code.isdecimal() else 500
