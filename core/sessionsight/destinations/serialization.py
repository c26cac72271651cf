"""Serialization shared by the vendors: JSON, times, headers and ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from sessionsight.capture.encoding import replace_surrogates
from sessionsight.capture.records import QueuedRecord, Record, record_id
from sessionsight.request.context import TrackingContext

__all__ = ["anonymous_id", "encode_body", "idempotency_header", "rfc3339"]


def anonymous_id(record: Record, context: TrackingContext, *, share_visitor_id: bool) -> str | None:
    """Return the visitor's anonymous id for a vendor whose own browser id is not sent to servers.

    The id of the call takes precedence, then the site's (`anonymous_id_cookie`, `anonymous_id_header`), then, if
    `share_visitor_id` allows it, SessionSight's visitor id.
    """
    found = record.anonymous_id or context.anonymous_id
    return found or (context.sessionsight.visitor_id if share_visitor_id else None)


def idempotency_header(entries: Sequence[QueuedRecord]) -> dict[str, str]:
    """Return the `Idempotency-Key` header for a request with one record; no header for several."""
    return {"Idempotency-Key": record_id(entries[0].record)} if len(entries) == 1 else {}


def rfc3339(time: float) -> str:
    """Format Unix seconds as UTC with milliseconds and `Z`, like JavaScript's `toISOString`.

    Example:
        >>> rfc3339(1767225600.0)
        '2026-01-01T00:00:00.000Z'
    """
    seconds, milliseconds = divmod(round(time * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    # Most records of a batch are of the same second, and this is the most expensive part of encoding one.
    # `fromtimestamp` fails for times before 1970 on Windows.
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def encode_body(value: Any) -> bytes:
    """Encode a request body as JSON. Decimals become numbers; `msgspec.Raw` is inserted unchanged."""
    try:
        return _ENCODER.encode(value)
    except (UnicodeEncodeError, TypeError):  # a lone surrogate, or a subclass of str such as Markup
        return _ENCODER.encode(replace_surrogates(value))


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # UTC, and its isoformat without a zone
_ENCODER = msgspec.json.Encoder(decimal_format="number")
