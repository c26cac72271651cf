"""The end of a WSGI response: when its body is exhausted, when it is closed, or just before its last byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sessionsight.adapters import (
    Analytics,
    ContentLengthTracker,
    RequestScope,
    close_response,
    reset_current,
    scope_of,
    set_current,
    suspended,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

__all__ = [
    "CompletedResponseBody",
    "LastByteHook",
    "ResponseBody",
    "SizedResponseBody",
    "close_with_file",
    "is_file",
    "observe_start_response",
]


def observe_start_response(start_response: StartResponse, scope: RequestScope, method: str) -> StartResponse:
    """Wrap `start_response`, so that the scope gets to know how the response begins."""

    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
        types = [value for name, value in headers if name.lower() == "content-type"]
        scope.response_started(method, _code(status), types[0] if types else None)
        return start_response(status, headers, *exc_info)

    return start


class LastByteHook:
    """Ends a scope before the byte that completes its response is passed to the server."""

    __slots__ = ("_scope", "_tracker")

    def __init__(self, scope: RequestScope, method: str) -> None:
        self._scope = scope
        self._tracker = ContentLengthTracker(method)

    def observe(self, start_response: StartResponse) -> StartResponse:
        """Wrap `start_response`, so that the length is read, and what the legacy `write` function sends is counted."""

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            # Nothing is sent yet: by PEP 3333 the headers wait for the first chunk, or for the end of the body.
            self._tracker.response_started(_code(status), headers)
            write = start_response(status, headers, *exc_info)

            def count_and_write(data: bytes) -> object:
                self.about_to_write(len(data))
                return write(data)

            return count_and_write

        return start

    def app_returned(self) -> None:
        """End the scope now if no byte follows: not every server iterates over a body that it does not send."""
        if self._tracker.is_complete:
            self._scope.end_before_last_byte()

    def about_to_write(self, size: int) -> None:
        """Count a chunk before it is sent."""
        if self._tracker.about_to_write(size):
            self._scope.end_before_last_byte()


class ResponseBody(Struct, eq=False):
    """A response's body, whose chunks are made while its request's analytics are the current ones."""

    body: Iterable[bytes]
    analytics: Analytics
    scope: RequestScope
    last_byte: LastByteHook | None

    def __iter__(self) -> Iterator[bytes]:
        scope, last_byte = self.scope, self.last_byte
        chunks = self.body
        current = self.analytics
        while True:
            token = set_current(current)
            try:
                chunks = iter(chunks)
                for chunk in chunks:  # noqa: B007  # not `next`, whose StopIteration takes long
                    current = suspended(self.analytics)
                    break
                else:
                    if last_byte is None:
                        scope.end()
                    else:
                        scope.end_before_last_byte()
                    scope.deactivate()
                    return
            except Exception:
                if last_byte is not None:
                    scope.end_before_last_byte()
                raise
            finally:
                reset_current(token)
            scope.stays_open()
            if last_byte is not None:
                self._about_to_write(chunk, last_byte)
            yield chunk

    def _about_to_write(self, chunk: bytes, last_byte: LastByteHook) -> None:
        """Count a chunk before it is sent."""
        last_byte.about_to_write(len(chunk))

    def close(self) -> None:
        """Close the scope, because the server has sent the response, or has lost the connection."""
        close = getattr(self.body, "close", None)
        if close is None:
            self.scope.close()
        else:
            close_response(self.analytics, close)


class SizedResponseBody(ResponseBody):
    """A body of a known number of chunks. If there is one chunk, servers compute the Content-Length themselves."""

    def _about_to_write(self, chunk: bytes, last_byte: LastByteHook) -> None:
        """Count a chunk before it is sent; the only one is the last."""
        last_byte.about_to_write(len(chunk))
        if len(self) == 1:
            self.scope.end_before_last_byte()

    def __len__(self) -> int:
        return len(self.body)  # type: ignore[arg-type]


class CompletedResponseBody(Struct, eq=False):
    """A list or tuple whose chunks are complete, so that only the end has to be observed."""

    body: list[bytes] | tuple[bytes, ...]
    scope: RequestScope

    def __iter__(self) -> Iterator[bytes]:
        yield from self.body
        self.scope.end()
        self.scope.deactivate()

    def __len__(self) -> int:
        return len(self.body)

    def close(self) -> None:
        """Close the scope, because the server has sent the response."""
        self.scope.close()


def is_file(body: object, file_wrapper: Any) -> bool:
    """Return whether the server would send this body by sendfile, as long as it is not wrapped."""
    if isinstance(file_wrapper, type):
        return isinstance(body, file_wrapper)
    # uWSGI's is a function that returns the file itself.
    return hasattr(body, "fileno")


def close_with_file(body: Any, analytics: Analytics) -> None:
    """Leave the body unwrapped, and close the scope when the server closes the body."""
    close = getattr(body, "close", None)
    scope = scope_of(analytics)

    def close_both() -> None:
        if close is None:
            scope.close()
        else:
            close_response(analytics, close)

    try:
        body.close = close_both
    except AttributeError:  # a file object implemented in C
        scope.close()


def _code(status: str) -> int:
    code = status[:3]
    return int(code) if code.isdecimal() else 500
