"""Transport of the console destination: writes calls to stderr."""

from __future__ import annotations

import sys

from sessionsight.delivery.transport import NotSent, TimeLimits
from sessionsight.destinations.base import VendorRequest, VendorResponse

__all__ = ["ConsoleTransport"]


class ConsoleTransport:
    """Writes each call's body to the current `sys.stderr`, in one call of `write`."""

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        """Write the body.

        Raises:
            NotSent: The process has no stderr, as in a Windows service, or has closed it.
        """
        if sys.stderr is None:
            raise NotSent("this process has no stderr")
        try:
            sys.stderr.write(call.body.decode("utf-8", "replace"))
            sys.stderr.flush()
        except (OSError, ValueError) as error:
            raise NotSent(f"stderr cannot be written to: {type(error).__name__}") from None
        return VendorResponse(status=200)

    def close(self) -> None:
        """Do nothing, because nothing is open."""
