"""Erases a user: drops their queued records, and sends each vendor the request that deletes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from sessionsight.delivery.queue.base import Spool
from sessionsight.delivery.redaction import redact_text
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.delivery.transport import TimeLimits, Transport
from sessionsight.destinations.base import Destination, VendorRequest, error_message

__all__ = ["Erasure", "erase_user"]


class Erasure(Struct, frozen=True, kw_only=True):
    """The result of `Client.erase` for one destination."""

    destination: str
    outcome: Literal["erased", "not_found", "unsupported", "failed"]
    """`erased`: the vendor has accepted the request. `not_found`: it does not know the user. `unsupported`: it has no
    such request, so the user must be deleted in its dashboard or by its support. `failed`: see `message`; nothing is
    retried, so repeat the call."""
    message: str = ""
    """The vendor's error message, and what could not be dropped from the queue."""
    status: int | None = None
    """The HTTP status, if there was a response."""
    dropped: int = 0
    """Number of records and dead letters about the user that were dropped from the destination's queue."""


def erase_user(
    destination: Destination,
    spool: Spool,
    make_transport: Callable[[Destination], Transport],
    user_id: str,
    timeout: float,
) -> Erasure:
    """Erase a user in one lane and at its vendor.

    Args:
        destination: The vendor. It may have a method `build_erasure_request`.
        spool: The queues.
        make_transport: Returns a transport, which is closed afterwards.
        user_id: The app's own id of the user.
        timeout: Seconds for connecting, and for the response.
    """
    problem = ""
    dropped = 0
    try:
        dropped = spool.erase(destination.name, user_id)
    except StoreError as error:  # a later attempt may succeed, and the vendor must be asked all the same
        problem = f"records in the spool could not be dropped: {error}"
    result = replace(_ask_vendor(destination, make_transport, user_id, timeout), dropped=dropped)
    if problem:
        message = f"{problem}; {result.message}" if result.message else problem
        result = replace(result, outcome="failed", message=message)
    return result


def _ask_vendor(
    destination: Destination, make_transport: Callable[[Destination], Transport], user_id: str, timeout: float
) -> Erasure:
    name = destination.name
    try:
        build = getattr(destination, "build_erasure_request", None)
        request: VendorRequest | None = None if build is None else build(user_id)
        if request is None:
            return Erasure(destination=name, outcome="unsupported", message="the vendor documents no such request")
        transport = make_transport(destination)
        try:
            limits = TimeLimits(connect=timeout, read=timeout, total=timeout)
            response = transport.send(request, limits)
        finally:
            transport.close()
    except Exception as error:  # a custom destination, a key that cannot be read, a call without a response
        message = redact_text(f"{type(error).__name__}: {error}", destination)
        return Erasure(destination=name, outcome="failed", message=message)
    status = response.status
    if 200 <= status < 300:
        return Erasure(destination=name, outcome="erased", status=status)
    message = redact_text(error_message(response), destination)
    return Erasure(destination=name, outcome="not_found" if status == 404 else "failed", message=message, status=status)
