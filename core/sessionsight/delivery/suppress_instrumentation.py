"""Our own calls are none of the host's: tracing libraries leave them alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

__all__ = ["untraced"]


@contextmanager
def untraced() -> Iterator[None]:
    """Within, OpenTelemetry and Sentry make no spans, where they are in use.

    A library that is half imported, or not as we know it, changes nothing: a span is no reason to lose a call.

    Example:
        >>> with untraced():
        ...     transport.handle_request(request)  # doctest: +SKIP
    """
    with ExitStack() as stack:
        _leave_opentelemetry(stack)
        _leave_sentry(stack)
        yield


def _leave_opentelemetry(stack: ExitStack) -> None:
    """Set its own marks for calls that must not become spans."""
    api = sys.modules.get("opentelemetry.context")
    if api is None:
        return
    with suppress(Exception):
        values = api.get_current()
        for mark in ("suppress_instrumentation", "suppress_http_instrumentation"):
            # Older instrumentations look for the plain name, newer ones for the constant's value.
            for key in {mark, getattr(api, f"_{mark.upper()}_KEY", mark)}:
                values = api.set_value(key, value=True, context=values)
        stack.callback(api.detach, api.attach(values))


def _leave_sentry(stack: ExitStack) -> None:
    """Take our thread out of the span in which it was started, which may be that of somebody's request."""
    api = sys.modules.get("sentry_sdk")
    if api is None:
        return
    with suppress(Exception):
        stack.enter_context(api.new_scope()).span = None
