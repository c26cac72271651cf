"""An entry as bytes, and back. `since` is not among them: it has a column, which a dead letter's retry changes."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from msgspec.structs import replace

from sessionsight.capture.encoding import replace_surrogates
from sessionsight.capture.records import Alias, Event, Goal, Group, Identify, PersonProperties, QueuedRecord
from sessionsight.request.context import TrackingContext

__all__ = ["decode_entry", "encode_entry"]

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder(
    tuple[Event | Identify | PersonProperties | Alias | Group | Goal, TrackingContext]
).decode


def encode_entry(entry: QueuedRecord) -> bytes:
    """The record and its context. Field names stand beside the values, so that later releases may add some."""
    record, context = entry.record, entry.context
    if isinstance(record, Goal) and isinstance(record.amount, int) and record.amount >= 2**64:
        record = replace(record, amount=Decimal(record.amount))  # which is no integer to MessagePack
    try:
        return _encode((record, context))
    except (UnicodeEncodeError, TypeError):  # a lone surrogate, which no vendor would see either, or marked-up text
        return _encode(replace_surrogates((record, context)))


def decode_entry(body: bytes, *, since: float, row: int) -> QueuedRecord:
    """The entry again."""
    record, context = _decode(body)
    return QueuedRecord(record, context, since, row)
