"""Values to JSON bytes, once: the one table of types, sizes and depths.

What consists of plain types alone is written by msgspec as it stands. Anything else becomes plain
by `_plain` first, which is where each other type is decided.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from sessionsight.consent import redact
from sessionsight.errors import InvalidPropertiesError

__all__ = ["MAX_BYTES", "PropertyEncoder", "decode", "encode", "plain_texts"]

MAX_BYTES = 64 * 1024
MAX_DEPTH = 100

# Written by msgspec as our users expect it: dates and times as ISO 8601, bytes as base64, and
# float's NaN and infinities as null. A Decimal's it would write as they are, which is not JSON.
_PLAIN = frozenset({str, int, float, bool, type(None), bytes, datetime, date, time, timedelta, UUID})
_SURROGATE = re.compile("[\ud800-\udfff]")


class PropertyEncoder:
    """Encodes mappings of properties as JSON objects, by one client's rules.

    Takes JSON types, dates and times (ISO 8601), Decimal (an exact number), UUID, Enum, bytes
    (base64), sets (sorted), paths, dataclasses, attrs, msgspec and Pydantic models (without fields
    whose names begin with an underscore), Django models (the primary key alone), and lazy strings.
    NaN and infinities become null, lone surrogates U+FFFD, keys strings; any other object becomes `"<TypeName>"`.

    Args:
        unknown: Told the type of each such other object.
        redact: Names, in any case and at any depth, whose values are replaced.
        max_bytes: The largest result.

    Example:
        >>> PropertyEncoder()({"amount": Decimal("49.90"), "tags": {"b", "a"}})
        b'{"amount":49.90,"tags":["a","b"]}'
    """

    __slots__ = ("_max_bytes", "_redact", "_unknown")

    def __init__(
        self,
        *,
        unknown: Callable[[type], None] | None = None,
        redact: Iterable[str] = (),
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._unknown = unknown
        self._redact = frozenset(name.casefold() for name in redact)
        self._max_bytes = max_bytes

    def __call__(self, properties: Mapping[str, Any] | None) -> bytes:
        """Encode the properties; None is an empty object.

        Raises:
            InvalidPropertiesError: Not a mapping, circular, nested too deeply, or too large.
        """
        if properties is None:
            return b"{}"
        if type(properties) is not dict and not isinstance(properties, Mapping):
            raise InvalidPropertiesError(
                f"properties must be a mapping of names to values, not {type(properties).__name__}"
            )
        encoded = encode(properties, self._unknown)
        if self._redact:
            encoded = encode(redact(decode(encoded), self._redact))
        if len(encoded) > self._max_bytes:
            raise InvalidPropertiesError(
                f"the properties take {len(encoded)} bytes as JSON, and {self._max_bytes} are allowed; "
                "send ids in place of whole objects"
            )
        return encoded


def encode(value: Any, unknown: Callable[[type], None] | None = None) -> bytes:
    """Encode any value as JSON.

    Raises:
        InvalidPropertiesError: It contains itself, is nested too deeply, or raises when it is read.
    """
    try:
        if type(value) is dict and _is_plain(value, MAX_DEPTH):
            try:
                return _ENCODER.encode(value)
            except ValueError:
                pass  # a lone surrogate
        return _ENCODER.encode(_plain(value, MAX_DEPTH, unknown))
    except InvalidPropertiesError as error:
        raise error.with_traceback(None) from None  # whose hundred frames tell nothing
    except Exception as error:
        # Code of the values themselves ran: a lazy string, a property, a model's own export.
        raise InvalidPropertiesError(
            f"the properties cannot be written as JSON: {type(error).__name__}: {error}"
        ) from error


def decode(encoded: bytes) -> Any:
    """Read JSON that `encode` wrote, with numbers kept exact: a fraction becomes a Decimal."""
    return _DECODER.decode(encoded)


def plain_texts(value: Any) -> Any:
    """A value whose texts, at any depth, are as encoders write them: plain strings without lone surrogates.

    Example:
        >>> plain_texts({"name": ["a", chr(0xD800)]}) == {"name": ["a", chr(0xFFFD)]}
        True
    """
    match value:
        case str():
            return _SURROGATE.sub("\ufffd", str.__str__(value))
        case dict():
            return {plain_texts(name): plain_texts(item) for name, item in value.items()}
        case list() | tuple():
            return [plain_texts(item) for item in value]
        case msgspec.Struct():
            texts = {name: plain_texts(getattr(value, name)) for name in value.__struct_fields__}
            return msgspec.structs.replace(value, **texts)
    return value


def _is_plain(value: dict[Any, Any] | list[Any] | tuple[Any, ...], depth: int) -> bool:
    """Whether msgspec may write each member as it stands."""
    items: Iterable[Any] = value
    if type(value) is dict:
        items = value.values()
        for key in value:
            if type(key) is not str:
                return False
    for item in items:
        kind = type(item)
        if kind in _PLAIN:
            continue
        if kind is Decimal:
            if not item.is_finite():
                return False
        elif kind is dict or kind is list or kind is tuple:
            if not depth or not _is_plain(item, depth - 1):
                return False
        else:
            return False
    return True


def _plain(value: Any, depth: int, unknown: Callable[[type], None] | None) -> Any:
    """The value in plain types, whatever it was."""
    if depth < 0:
        raise InvalidPropertiesError("the properties contain themselves, or are nested too deeply")
    match value:
        case Enum():
            return _plain(value.value, depth - 1, unknown)
        case os.PathLike():
            return _plain(os.fsdecode(value), depth, unknown)
        case str() | bytes() | bytearray() | memoryview():
            return _scalar(value)
        case Mapping():
            return {_key(key, depth, unknown): _plain(item, depth - 1, unknown) for key, item in value.items()}
        case AbstractSet():
            return sorted((_plain(item, depth - 1, unknown) for item in value), key=_ENCODER.encode)
        case Sequence():
            return [_plain(item, depth - 1, unknown) for item in value]
    if (scalar := _scalar(value)) is not msgspec.UNSET:
        return scalar
    kind = type(value)
    if (members := _members(value, kind)) is not None:
        return {name: _plain(item, depth - 1, unknown) for name, item in members if item is not msgspec.UNSET}
    if _is_pydantic(kind):
        return _plain(value.model_dump(), depth - 1, unknown)
    # Django's lazy objects, `request.user` among them, say by this attribute whose place they take.
    if _is_django_model(value.__class__):
        return _plain(value.pk, depth - 1, unknown)
    if _is_lazy_string(kind):
        return _plain(str(value), depth - 1, unknown)
    if unknown is not None:
        unknown(kind)
    return f"<{kind.__name__}>"


def _scalar(value: Any) -> Any:
    """A value without members in plain types; `UNSET` for anything else."""
    match value:
        case None | bool():
            return value
        case str():
            return plain_texts(value)
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case Decimal():
            return value if value.is_finite() else None
        case datetime() | date() | time():
            text: str = value.isoformat()
            return f"{text[:-6]}Z" if text.endswith("+00:00") else text
        case timedelta():
            return timedelta(value.days, value.seconds, value.microseconds)
        case UUID():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
    return msgspec.UNSET


def _key(key: Any, depth: int, unknown: Callable[[type], None] | None) -> str:
    plain = _plain(key, depth - 1, unknown)
    return plain if isinstance(plain, str) else _ENCODER.encode(plain).decode()


def _members(value: Any, kind: type) -> Iterator[tuple[str, Any]] | None:
    """Names and values of a dataclass, attrs or msgspec instance, as far as they are set; None for anything else."""
    names: Iterable[tuple[str, str]]
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
    elif dataclasses.is_dataclass(kind):
        names = ((field.name, field.name) for field in dataclasses.fields(kind))
    elif (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        names = ((attribute.name, attribute.name) for attribute in attributes)
    else:
        return None
    return ((alias, getattr(value, name, msgspec.UNSET)) for name, alias in names if not name.startswith("_"))


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "__pydantic_core_schema__") and hasattr(kind, "model_dump")


def _is_django_model(kind: type) -> bool:
    return any(base.__name__ == "Model" and base.__module__ == "django.db.models.base" for base in kind.__mro__)


def _is_lazy_string(kind: type) -> bool:
    """Django's promises and the LazyString of Babel's integrations, known by name: neither is imported."""
    return any(
        base.__name__ == "LazyString" or (base.__name__ == "Promise" and base.__module__ == "django.utils.functional")
        for base in kind.__mro__
    )


_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
