"""Adds the id of the current OpenTelemetry trace to the properties of events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sessionsight.capture.validation import merge_properties
from sessionsight.errors import MissingDependencyError

__all__ = ["EncodeEvent", "with_trace_id"]

EncodeEvent = Callable[[Mapping[str, Any] | None], bytes]
"""Encodes the properties of an event as a JSON object."""


def with_trace_id(encode: EncodeEvent) -> EncodeEvent:
    """Return an encoder that adds the property `trace_id`, 32 hexadecimal digits, while a span is recording.

    A `trace_id` among the properties takes precedence.

    Args:
        encode: Encodes the properties.

    Raises:
        MissingDependencyError: opentelemetry-api is not installed.
    """
    try:
        from opentelemetry.trace import format_trace_id, get_current_span
    except ImportError:
        raise MissingDependencyError(
            "trace_id=True needs opentelemetry-api: pip install 'sessionsight[otel]'"
        ) from None

    def encode_with_trace_id(properties: Mapping[str, Any] | None) -> bytes:
        span = get_current_span()
        if span.is_recording():
            trace_id = format_trace_id(span.get_span_context().trace_id)
            properties = merge_properties({"trace_id": trace_id}, properties)
        return encode(properties)

    return encode_with_trace_id
