"""Detects the write that completes a response whose length is known from its headers."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ContentLengthTracker"]

_NAMES = frozenset({"content-length", b"content-length"})


class ContentLengthTracker:
    """Counts the bytes of one response's body, and detects the last one.

    A client has the whole response when it has received as many bytes as Content-Length says, whatever the app does
    afterwards. A response that has no body (RFC 9110, section 6.4.1) is complete with its headers.

    Args:
        method: The request's method, in upper case.

    Example:
        >>> tracker = ContentLengthTracker("GET")
        >>> tracker.response_started(200, [("Content-Length", "5")])
        False
        >>> tracker.about_to_write(3), tracker.about_to_write(2)
        (False, True)
    """

    __slots__ = ("_is_head", "_remaining")

    def __init__(self, method: str) -> None:
        self._is_head = method == "HEAD"
        self._remaining: int | None = None

    def response_started(self, status: int, headers: Iterable[tuple[str | bytes, str | bytes]]) -> bool:
        """Read the status and the headers of the response.

        Args:
            status: The HTTP status.
            headers: Names and values, as str or bytes.

        Returns:
            True if the response is complete with its headers.
        """
        if self._is_head or status in {204, 304} or status < 200:
            self._remaining = 0
            return True
        self._remaining = None
        for name, value in headers:
            if len(name) == 14 and name.lower() in _NAMES:
                text = (value if isinstance(value, str) else value.decode("latin-1")).strip()
                # A value that is not a number is ignored; the server will reject it.
                self._remaining = int(text) if text.isascii() and text.isdecimal() else None
                break
        return self.is_complete

    @property
    def is_complete(self) -> bool:
        """True when the client needs no more bytes for the whole response."""
        return self._remaining is not None and self._remaining <= 0

    def about_to_write(self, size: int) -> bool:
        """Count bytes of the body that are about to be written.

        Args:
            size: The number of bytes.

        Returns:
            True if they complete the response. False if the length is not known.
        """
        if self._remaining is None:
            return False
        self._remaining -= size
        return self.is_complete
