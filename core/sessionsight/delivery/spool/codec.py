"""An entry as bytes, and back. `since` is not among them: it has a column, which a dead letter's retry changes."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace

from sessionsight.context import TrackingContext
from sessionsight.records import Alias, Entry, Event, Goal, Group, Identify, PersonProperties

__all__ = ["from_bytes", "to_bytes"]

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder(
    tuple[Event | Identify | PersonProperties | Alias | Group | Goal, TrackingContext]
).decode


_SURROGATE = re.compile("[\ud800-\udfff]")


def to_bytes(entry: Entry) -> bytes:
    """The record and its context. Field names stand beside the values, so that later releases may add some."""
    record, context = entry.record, entry.context
    try:
        return _encode((record, context))
    except OverflowError:  # a goal's amount beyond 64 bits
        if isinstance(record, Goal) and isinstance(record.amount, int):
            record = replace(record, amount=Decimal(record.amount))
        return _encode((record, context))
    except UnicodeEncodeError:  # a lone surrogate, which no vendor would see either
        return _encode(_without_surrogates(msgspec.to_builtins((record, context), builtin_types=(bytes, Decimal))))


def from_bytes(body: bytes, *, since: float, row: int) -> Entry:
    """The entry again."""
    record, context = _decode(body)
    return Entry(record, context, since, row)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value
