"""Encodes values as JSON once, at the capture: the table of types, sizes and depths.

What consists of plain types alone is written by msgspec as it stands. Anything else becomes plain
by a `_Converter` first, which is where each other type is decided.
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from sessionsight.capture.objects import MAX_DEPTH, array_values, field_values, is_row, primary_key, text_of
from sessionsight.capture.scalars import to_python
from sessionsight.errors import InvalidPropertiesError
from sessionsight.request.consent import redact

__all__ = ["MAX_BYTES", "MAX_DEPTH", "PropertyEncoder", "decode", "encode", "replace_surrogates"]

MAX_BYTES = 64 * 1024
_MAX_BITS = 10_000  # Python writes no integer of more than 4,300 digits

# msgspec writes these as documented: dates and times as ISO 8601, bytes as base64, and
# float's NaN and infinities as null. Those of a Decimal it would write unchanged, which is not JSON.
_PLAIN: frozenset[type] = frozenset({str, int, float, bool, type(None), bytes, datetime, date, time, timedelta, UUID})
_SCALARS = _PLAIN | {Decimal}
_SURROGATE = re.compile("[\ud800-\udfff]")


class PropertyEncoder:
    """Encodes mappings of properties as JSON objects, by one client's rules.

    Takes JSON types, dates and times (ISO 8601), Decimal (an exact number), UUID, Enum, bytes
    (base64), sets (sorted), paths, dataclasses, attrs, msgspec and Pydantic models (without fields that their
    class hides, see `objects.field_values`), scalars, arrays and frames of numpy, pandas, polars and pyarrow,
    rows of databases (the primary key alone), URLs, and lazy strings. NaN, infinities and other missing values
    become null, lone surrogates U+FFFD, keys strings; any other object becomes `"<TypeName>"`.

    Args:
        unknown: Called with the type of each such other object.
        failed: Called with the type of each object that raised while it was read, and its exception. It becomes
            `"<TypeName>"` too.
        redact: Names, in any case and at any depth, whose values are replaced.
        max_bytes: The largest result.
        time_zone: The zone of datetimes that name none; by default they are written without one.

    Example:
        >>> PropertyEncoder()({"amount": Decimal("49.90"), "tags": {"b", "a"}})
        b'{"amount":49.90,"tags":["a","b"]}'
    """

    __slots__ = ("_converter", "_max_bytes", "_plain", "_redact", "time_zone")

    def __init__(
        self,
        *,
        unknown: Callable[[type], None] | None = None,
        failed: Callable[[type, Exception], None] | None = None,
        redact: Iterable[str] = (),
        max_bytes: int = MAX_BYTES,
        time_zone: tzinfo | None = None,
    ) -> None:
        self._converter = _Converter(unknown, failed, time_zone)
        self._redact = frozenset(name.casefold() for name in redact)
        self._max_bytes = max_bytes
        self._plain = _PLAIN if time_zone is None else _PLAIN - {datetime}
        self.time_zone = time_zone

    def __call__(self, properties: Mapping[str, Any] | None) -> bytes:
        """Encode the properties; None is an empty object.

        Raises:
            InvalidPropertiesError: Not a mapping, circular, nested too deeply, or too large.
        """
        if properties is None:
            return b"{}"
        if type(properties) is not dict:
            if not isinstance(properties, Mapping):
                raise InvalidPropertiesError(
                    f"properties must be a mapping of names to values, not {type(properties).__name__}"
                )
            properties = _as_dict(properties)
        encoded = _encode(properties, self._plain, self._converter)
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

    Args:
        value: As one value of the properties of a `PropertyEncoder`.
        unknown: As there.

    Raises:
        InvalidPropertiesError: It contains itself or is nested too deeply.
    """
    return _encode(value, _PLAIN, _CONVERTER if unknown is None else _Converter(unknown, None, None))


def _encode(value: Any, plain: frozenset[type], converter: _Converter) -> bytes:
    try:
        if type(value) is dict and _is_plain(value, MAX_DEPTH, plain):
            try:
                return _ENCODER.encode(value)
            except ValueError:
                pass  # a lone surrogate, or an integer of thousands of digits
        return _ENCODER.encode(converter.convert(value, MAX_DEPTH))
    except InvalidPropertiesError as error:
        raise error.with_traceback(None) from None  # its hundred frames do not help
    except RecursionError:
        raise InvalidPropertiesError("the properties contain themselves, or are nested too deeply") from None


def _as_dict(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping's members, which its own code provides."""
    try:
        return dict(properties.items())
    except Exception as error:
        raise InvalidPropertiesError(f"the properties cannot be read: {type(error).__name__}") from error


def decode(encoded: bytes) -> Any:
    """Read JSON that `encode` wrote, with numbers kept exact: a fraction becomes a Decimal."""
    return _DECODER.decode(encoded)


def replace_surrogates(value: Any) -> Any:
    """Return a value whose strings, at any depth, are plain strings without lone surrogates, as encoders write them.

    Example:
        >>> replace_surrogates({"name": ["a", chr(0xD800)]}) == {"name": ["a", chr(0xFFFD)]}
        True
    """
    match value:
        case str():
            return _SURROGATE.sub("\ufffd", str.__str__(value))
        case dict():
            return {replace_surrogates(name): replace_surrogates(item) for name, item in value.items()}
        case list() | tuple():
            return [replace_surrogates(item) for item in value]
        case msgspec.Struct():
            texts = {name: replace_surrogates(getattr(value, name)) for name in value.__struct_fields__}
            return msgspec.structs.replace(value, **texts)
    return value


def _is_plain(value: dict[Any, Any] | list[Any] | tuple[Any, ...], depth: int, plain: frozenset[type]) -> bool:
    """Return whether msgspec may write each member unchanged."""
    items: Iterable[Any] = value
    if type(value) is dict:
        items = value.values()
        for key in value:
            if type(key) is not str:
                return False
    for item in items:
        kind = type(item)
        if kind in plain:
            continue
        if kind is Decimal:
            if not item.is_finite():
                return False
        elif kind is dict or kind is list or kind is tuple:
            if not depth or not _is_plain(item, depth - 1, plain):
                return False
        else:
            return False
    return True


class _Converter(msgspec.Struct, frozen=True):
    """Converts any value to the types that JSON has.

    Code of the values themselves runs meanwhile: a lazy string, a property, a model's own export. A value of which
    that fails is lost alone.
    """

    unknown: Callable[[type], None] | None
    failed: Callable[[type, Exception], None] | None
    time_zone: tzinfo | None

    def convert(self, value: Any, depth: int) -> Any:
        if depth < 0:
            raise InvalidPropertiesError("the properties contain themselves, or are nested too deeply")
        try:
            if (found := self._convert(value, depth)) is not msgspec.UNSET:
                return found
        except (InvalidPropertiesError, RecursionError):
            raise
        except Exception as error:
            if self.failed is not None:
                self.failed(type(value), error)
        else:
            if self.unknown is not None:
                self.unknown(type(value))
        return f"<{type(value).__name__}>"

    def _convert(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is dict:
            return self._mapping(value, depth)
        if kind is list or kind is tuple:
            return [self.convert(item, depth - 1) for item in value]
        if kind in _SCALARS:
            return self._scalar(value)
        # Proxies, such as Django's lazy objects and Werkzeug's, return the type of their object here.
        if is_row(value.__class__):
            key = primary_key(value)
            return key if key is msgspec.UNSET else self.convert(key, depth - 1)
        match value:
            case Enum():
                return self.convert(value.value, depth - 1)
            case os.PathLike():
                return self.convert(os.fsdecode(value), depth)
            case str() | bytes() | bytearray() | memoryview():
                return self._scalar(value)
            case Mapping():
                return self._mapping(value, depth)
            case AbstractSet():
                return sorted((self.convert(item, depth - 1) for item in value), key=_ENCODER.encode)
        if (found := to_python(value)) is not msgspec.UNSET:
            return self.convert(found, depth - 1)
        if (found := self._scalar(value)) is not msgspec.UNSET:
            return found
        for read in (_array_values, field_values, text_of):
            if (found := read(value)) is not msgspec.UNSET:
                return self.convert(found, depth - 1)
        if isinstance(value, Sequence | ValuesView):
            return [self.convert(item, depth - 1) for item in value]
        return msgspec.UNSET

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        return {self._key(key, depth): self.convert(item, depth - 1) for key, item in value.items()}

    def _key(self, key: Any, depth: int) -> str:
        plain = self.convert(key, depth - 1)
        return plain if isinstance(plain, str) else _ENCODER.encode(plain).decode()

    def _scalar(self, value: Any) -> Any:
        """Return a value without members as a plain type; `UNSET` for anything else."""
        match value:
            case str():
                return replace_surrogates(value)
            case None | bool():
                return value
            case int():
                return int(value) if value.bit_length() <= _MAX_BITS else msgspec.UNSET
            case float():
                return float(value) if math.isfinite(value) else None
            case Decimal():
                return value if value.is_finite() else None
            case datetime():
                if self.time_zone is not None and value.tzinfo is None:
                    value = value.replace(tzinfo=self.time_zone)
                return _iso(datetime.isoformat(value))
            case date() | time():
                return _iso(value.isoformat())
            case timedelta():
                return timedelta(value.days, value.seconds, value.microseconds)
            case UUID():
                return str(value)
            case bytes() | bytearray() | memoryview():
                return base64.b64encode(value).decode("ascii")
        return msgspec.UNSET


def _iso(text: str) -> str:
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _array_values(value: Any) -> Any:
    """Return the values of an array that can fit: an element takes at least two bytes, with its comma."""
    return array_values(value, MAX_BYTES // 2)


_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_CONVERTER = _Converter(None, None, None)
