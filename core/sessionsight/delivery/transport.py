"""The protocol of transports, which send calls to vendors, and the ways in which a call can fail."""

from __future__ import annotations

import gzip
from typing import Protocol

from msgspec import Struct

from sessionsight.destinations.base import VendorRequest, VendorResponse

__all__ = ["InvalidCall", "NotSent", "OutcomeUnknown", "TimeLimits", "Transport", "TransportError", "compress"]


class TransportError(Exception):
    """A call without a usable reply. Subclasses say what the vendor may have received."""


class NotSent(TransportError):
    """The vendor has certainly not received the call: no connection was made."""


class OutcomeUnknown(TransportError):
    """The call was written, wholly or in part, and its outcome is unknown."""


class InvalidCall(TransportError):
    """The call cannot be sent as it is, for instance because a key contains a line break."""


class TimeLimits(Struct, frozen=True, kw_only=True):
    """Time limits of a call, in seconds."""

    connect: float
    read: float
    total: float

    def within(self, seconds: float) -> TimeLimits:
        """Return the limits, none longer than this."""
        seconds = max(seconds, 0.001)
        return TimeLimits(
            connect=min(self.connect, seconds), read=min(self.read, seconds), total=min(self.total, seconds)
        )


class Transport(Protocol):
    """Sends a call and returns the reply. Used by several threads at a time."""

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        """Send the call once.

        Raises:
            TransportError: The call has no usable reply.
        """

    def close(self) -> None:
        """Close all connections."""


def compress(call: VendorRequest, above: int | None) -> VendorRequest:
    """Return the call with a gzip body, if its vendor accepts that and the body is large enough."""
    if above is None or len(call.body) <= above:
        return call
    return VendorRequest(
        method=call.method,
        url=call.url,
        headers={**call.headers, "Content-Encoding": "gzip"},
        # Level 1 takes half the time of the default, for a tenth more bytes.
        body=gzip.compress(call.body, compresslevel=1, mtime=0),
        entries=call.entries,
    )
