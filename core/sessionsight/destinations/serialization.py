"""What the vendors' calls are written with: JSON, times, the headers and ids that they share."""

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
    """The visitor's anonymous id for a vendor whose own browser id a server cannot see.

    The call's own id goes first, then the site's (`anonymous_id_cookie`, `anonymous_id_header`), then, if
    the site shares it, SessionSight's visitor id.
    """
    found = record.anonymous_id or context.anonymous_id
    return found or (context.sessionsight.visitor_id if share_visitor_id else None)


def idempotency_header(entries: Sequence[QueuedRecord]) -> dict[str, str]:
    """The `Idempotency-Key` header of a call that carries one record; no header for several."""
    return {"Idempotency-Key": record_id(entries[0].record)} if len(entries) == 1 else {}


def rfc3339(time: float) -> str:
    """Unix seconds as UTC with milliseconds and `Z`, as JavaScript's `toISOString` writes it.

    Example:
        >>> rfc3339(1767225600.0)
        '2026-01-01T00:00:00.000Z'
    """
    seconds, milliseconds = divmod(round(time * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    # Most records of a batch share their second, and this is the dearest part of writing one. Not by `fromtimestamp`,
    # which Windows refuses for what was before 1970.
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def encode_body(value: Any) -> bytes:
    """Write a request's body as JSON. Decimals are numbers; `msgspec.Raw` goes in as it stands."""
    try:
        return _ENCODER.encode(value)
    except (UnicodeEncodeError, TypeError):  # a lone surrogate in an id or a name, or marked-up text
        return _ENCODER.encode(replace_surrogates(value))


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # UTC, and its isoformat without a zone
_ENCODER = msgspec.json.Encoder(decimal_format="number")
