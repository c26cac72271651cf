"""Encoding of queued records for stores.

`enqueued_at` is not part of it: it has a column of its own, which a dead letter's retry changes.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
from msgspec.structs import replace

from sessionsight.capture.encoding import replace_surrogates
from sessionsight.capture.records import (
    Alias,
    EventRecord,
    FeedbackRecord,
    Goal,
    Group,
    Identify,
    PersonProperties,
    QueuedRecord,
)
from sessionsight.request.context import TrackingContext

__all__ = ["decode_entry", "encode_entry"]

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder(
    tuple[EventRecord | Identify | PersonProperties | Alias | Group | Goal | FeedbackRecord, TrackingContext]
).decode


def encode_entry(entry: QueuedRecord) -> bytes:
    """Encode the record and its context, with the names of fields, so that later releases may add some."""
    record, context = entry.record, entry.context
    if isinstance(record, Goal) and isinstance(record.amount, int) and record.amount >= 2**64:
        record = replace(record, amount=Decimal(record.amount))  # MessagePack integers have 64 bits
    try:
        return _encode((record, context))
    except (UnicodeEncodeError, TypeError):  # a lone surrogate, or a subclass of str
        return _encode(replace_surrogates((record, context)))


def decode_entry(body: bytes, *, enqueued_at: float, handle: int) -> QueuedRecord:
    """Decode a record.

    Raises:
        msgspec.MsgspecError: It was encoded by another release, or is damaged.
    """
    record, context = _decode(body)
    return QueuedRecord(record, context, enqueued_at, handle)
