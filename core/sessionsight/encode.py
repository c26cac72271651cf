"""Values to JSON bytes, once: the one table of types, sizes and depths.

The fast path is one call of msgspec. What it does not take as it stands (odd keys, lone
surrogates, NaN in a Decimal) goes through `_plain` and is encoded again.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from decimal import Decimal
from enum import Enum
from functools import partial
from os import PathLike, fspath
from typing import Any

import msgspec

from sessionsight.consent import redact
from sessionsight.errors import InvalidPropertiesError

__all__ = ["MAX_BYTES", "PropertyEncoder", "decode", "encode"]

MAX_BYTES = 64 * 1024
_MAX_DEPTH = 100
Convert = Callable[[Any], Any]

_SURROGATE = re.compile("[\ud800-\udfff]")


class PropertyEncoder:
    """Encodes mappings of properties as JSON objects, by one client's rules.

    Takes JSON types, dates and times (ISO 8601), Decimal (an exact number), UUID, Enum, bytes
    (base64), sets (sorted), paths, dataclasses, attrs, msgspec and Pydantic models, and lazy
    strings. NaN and infinities become null; any other object becomes `"<TypeName>"`.

    Args:
        unknown: Told the type of each such other object.
        redact: Names, in any case and at any depth, whose values are replaced.
        max_bytes: The largest result.

    Example:
        >>> PropertyEncoder()({"amount": Decimal("49.90"), "tags": {"b", "a"}})
        b'{"amount":49.90,"tags":["a","b"]}'
    """

    __slots__ = ("_convert", "_encoder", "_max_bytes", "_redact")

    def __init__(
        self,
        *,
        unknown: Callable[[type], None] | None = None,
        redact: Iterable[str] = (),
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._convert: Convert = partial(_convert, unknown=unknown)
        self._encoder = msgspec.json.Encoder(
            enc_hook=self._convert, decimal_format="number", order="deterministic"
        )
        self._redact = frozenset(name.casefold() for name in redact)
        self._max_bytes = max_bytes

    def __call__(self, properties: Mapping[str, Any] | None) -> bytes:
        """Encode the properties; None is an empty object.

        Raises:
            InvalidPropertiesError: Not a mapping, circular, or too large.
        """
        if type(properties) is not dict and not isinstance(properties, Mapping):
            if properties is None:
                return b"{}"
            raise InvalidPropertiesError(
                f"properties must be a mapping of names to values, not {type(properties).__name__}"
            )
        encoded = _encode(properties, self._encoder, self._convert)
        if self._redact:
            encoded = encode(redact(decode(encoded), self._redact))
        if len(encoded) > self._max_bytes:
            raise InvalidPropertiesError(
                f"the properties take {len(encoded)} bytes as JSON, and {self._max_bytes} are allowed; "
                "send ids in place of whole objects"
            )
        return encoded


def encode(value: Any) -> bytes:
    """Encode any value as JSON. Raises `InvalidPropertiesError` when it contains itself."""
    return _encode(value, _ENCODER, _convert)


def decode(encoded: bytes) -> Any:
    """Read JSON that `encode` wrote, with numbers kept exact: a fraction becomes a Decimal."""
    return _DECODER.decode(encoded)


def _encode(value: Any, encoder: msgspec.json.Encoder, convert: Convert) -> bytes:
    try:
        encoded = encoder.encode(value)
        # A Decimal NaN or infinity is written bare, which is not JSON; the word may also be mere text.
        if b"NaN" not in encoded and b"Inf" not in encoded:
            return encoded
    except RecursionError:
        raise InvalidPropertiesError("the properties contain themselves, or are nested too deeply") from None
    except (TypeError, ValueError, OverflowError):
        pass  # something that only the slow path can write
    return _BARE.encode(_plain(value, convert, 0))


def _plain(value: Any, convert: Convert, depth: int) -> Any:
    """The value in JSON's own types, whatever it was."""
    if depth > _MAX_DEPTH:
        raise InvalidPropertiesError("the properties contain themselves, or are nested too deeply")
    match value:
        case None | bool():
            return value
        case Enum():
            return _plain(value.value, convert, depth + 1)
        case str():
            return _SURROGATE.sub("\ufffd", str.__str__(value))
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case Decimal():
            return value if value.is_finite() else None
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case Mapping():
            return {_key(key, convert): _plain(item, convert, depth + 1) for key, item in value.items()}
        case Set():
            return sorted((_plain(item, convert, depth + 1) for item in value), key=_BARE.encode)
        case Sequence():
            return [_plain(item, convert, depth + 1) for item in value]
    if fields := _fields(value):
        return {name: _plain(getattr(value, name), convert, depth + 1) for name in fields}
    try:
        return _DECODER.decode(_BARE.encode(value))  # dates, times, UUID: msgspec's own types
    except (TypeError, ValueError):
        return _plain(convert(value), convert, depth + 1)


def _fields(value: Any) -> Sequence[str]:
    """The field names of a dataclass, attrs or msgspec instance; empty for anything else."""
    if isinstance(value, type):
        return ()
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if hasattr(kind, "__dataclass_fields__"):
        return tuple(kind.__dataclass_fields__)
    return tuple(attribute.name for attribute in getattr(kind, "__attrs_attrs__", ()))


def _key(key: Any, convert: Convert) -> str:
    plain = _plain(key, convert, 0)
    return plain if isinstance(plain, str) else _BARE.encode(plain).decode()


def _convert(value: Any, unknown: Callable[[type], None] | None = None) -> Any:
    """An object that msgspec does not know, as something it does."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return set(value)
    if isinstance(value, Sequence):
        return list(value)
    kind = type(value)
    if hasattr(kind, "__pydantic_core_schema__") and hasattr(kind, "model_dump"):
        return value.model_dump()
    if _is_lazy_string(kind):
        return str(value)
    if unknown is not None:
        unknown(kind)
    return f"<{kind.__name__}>"


def _is_lazy_string(kind: type) -> bool:
    """Django's promises and the LazyString of Babel's integrations, known by name: neither is imported."""
    return any(
        base.__name__ == "LazyString" or (base.__name__ == "Promise" and base.__module__ == "django.utils.functional")
        for base in kind.__mro__
    )


_BARE = msgspec.json.Encoder(decimal_format="number")
_ENCODER = msgspec.json.Encoder(enc_hook=_convert, decimal_format="number", order="deterministic")
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
