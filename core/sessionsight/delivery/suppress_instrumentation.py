"""Suppresses tracing of our own HTTP calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

__all__ = ["suppress_instrumentation"]


@contextmanager
def suppress_instrumentation() -> Iterator[None]:
    """Keep OpenTelemetry and Sentry, where they are in use, from making spans within the block.

    A library that is partly imported, or has a different API, is ignored: a span is not worth losing a call.

    Example:
        >>> with suppress_instrumentation():
        ...     transport.handle_request(request)  # doctest: +SKIP
    """
    if "opentelemetry.context" not in sys.modules and "sentry_sdk" not in sys.modules:
        yield
        return
    with ExitStack() as stack:
        _suppress_opentelemetry(stack)
        _suppress_sentry(stack)
        yield


def _suppress_opentelemetry(stack: ExitStack) -> None:
    """Set the context keys by which its instrumentations skip a call."""
    with suppress(Exception):  # it may not be imported
        api = sys.modules["opentelemetry.context"]
        values = api.get_current()
        for name in ("suppress_instrumentation", "suppress_http_instrumentation"):
            # Older instrumentations look for the plain name, newer ones for the constant's value.
            for key in {name, getattr(api, f"_{name.upper()}_KEY", name)}:
                values = api.set_value(key, value=True, context=values)
        stack.callback(api.detach, api.attach(values))


def _suppress_sentry(stack: ExitStack) -> None:
    """Detach our thread from the span in which it was started, which may belong to a request."""
    api = sys.modules.get("sentry_sdk")
    if api is None:
        return
    with suppress(Exception):
        stack.enter_context(api.new_scope()).span = None
